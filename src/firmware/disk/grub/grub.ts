/** GRUB's part of a boot: runs the configuration on a disk, chooses the entry, and tells what it would load. */
import { DiskError } from "../medium.ts";
import type { Volume, Volumes } from "../volumes.ts";
import { commandsOf } from "./commands.ts";
import type { Environment } from "./environment.ts";
import { Interpreter } from "./interpreter.ts";
import { type Loaded, Loader } from "./loader.ts";
import { entryOf, Menu, type MenuEntry, splitPath } from "./menu.ts";
import { GrubError } from "./syntax.ts";

const titlesShown = 12;
const titleMost = 200;
const menusMax = 20;

export interface GrubBoot extends Loaded {
  /** "Advanced options for Ubuntu>Ubuntu, with Linux 6.8.0-31-generic". */
  readonly title: string;
  /** The configuration that had the menu. */
  readonly config: string;
  /** What went on with less than the configuration asked. */
  readonly notes: readonly string[];
}

/** Entries that were looked at in vain. */
interface Seen {
  readonly titles: string[];
  more: number;
}

/** For a person: titles can be as long as the configuration. */
const pathOf = (titles: readonly string[]): string =>
  titles.map((title) => title.slice(0, titleMost)).join(">");

/** Runs the configuration at `path`; `wanted` is the entry to boot instead of the default one. Throws DiskError. */
export function bootGrub(
  volumes: Volumes,
  volume: Volume,
  path: string,
  wanted: string | undefined,
): GrubBoot {
  const grub = new Grub(volumes, volume, path);
  return grub.boot(wanted);
}

class Grub {
  readonly #loader: Loader;
  readonly #interpreter: Interpreter;
  readonly #environment: Environment;
  readonly #handlers: ReturnType<typeof commandsOf>;
  readonly #path: string;
  readonly #notes: string[] = [];

  constructor(volumes: Volumes, volume: Volume, path: string) {
    this.#interpreter = new Interpreter((name) => this.#handlers(name));
    this.#environment = this.#interpreter.environment;
    this.#loader = new Loader(volumes, this.#environment);
    this.#handlers = commandsOf(this.#loader);
    this.#path = path;
    this.#environment.set("root", volume.device);
    this.#environment.set("prefix", `(${volume.device})${path.replace(/\/[^/]*$/, "")}`);
  }

  boot(wanted: string | undefined): GrubBoot {
    const at = { file: this.#path, line: 1 };
    this.#interpreter.handlers("configfile")!([`(${this.#environment.get("root")})${this.#path}`], {
      interpreter: this.#interpreter,
      at,
      block: undefined,
    });
    const config = this.#environment.get("config_file");
    const { menu } = this.#loader;
    if (menu.entries.length === 0) {
      if (this.#loader.loaded) return this.#result([], config);
      throw new DiskError(`${config}: no menu entries${this.#why()}`);
    }
    const titles: string[] = [];
    const entry =
      wanted === undefined ? this.#default(menu, titles) : this.#find(menu, wanted, titles);
    this.#run(entry);
    return this.#result(titles, config);
  }

  /** Follows `default` down into menus; what it does not name is the first entry. */
  #default(menu: Menu, titles: string[]): MenuEntry {
    let path = this.#environment.get("default");
    for (let depth = 0; depth < menusMax; depth++) {
      const [first, rest] = splitPath(path);
      let entry = entryOf(menu, first);
      if (!entry) {
        entry = menu.entries[0]!;
        if (first !== "")
          this.#notes.push(`the default entry "${first}" is not in the menu: the first is taken`);
      }
      titles.push(entry.title);
      if (!entry.submenu) return entry;
      this.#environment.enter();
      menu = this.#open(entry);
      if (menu.entries.length === 0) throw new GrubError(entry.at, "a submenu without entries");
      path = rest;
    }
    throw this.#tooDeep();
  }

  /** By number, id or title, also of an entry further down. */
  #find(menu: Menu, wanted: string, titles: string[]): MenuEntry {
    const seen: Seen = { titles: [], more: 0 };
    const found = this.#search(menu, wanted, wanted, titles, seen);
    if (found) return found;
    const more = seen.more > 0 ? `, and ${seen.more} more` : "";
    const all = seen.titles.map((title) => `"${title}"`);
    throw new DiskError(`${this.#path}: no entry "${wanted}"; there are ${all.join(", ")}${more}`);
  }

  #search(
    menu: Menu,
    path: string,
    wanted: string,
    titles: string[],
    seen: Seen,
  ): MenuEntry | undefined {
    const [first, rest] = splitPath(path);
    const named = path === "" ? undefined : entryOf(menu, first);
    if (named && !named.submenu && rest === "") {
      titles.push(named.title);
      return named;
    }
    const into = (entry: MenuEntry, next: string) => {
      if (titles.length >= menusMax) throw this.#tooDeep();
      const leave = this.#environment.enter();
      titles.push(entry.title);
      const found = this.#search(this.#open(entry), next, wanted, titles, seen);
      if (found) return found;
      titles.pop();
      leave();
      return undefined;
    };
    if (named?.submenu) return into(named, rest === "" ? "0" : rest);
    for (const entry of menu.entries) {
      if (seen.titles.length < titlesShown) seen.titles.push(pathOf([...titles, entry.title]));
      else seen.more++;
      // an entry's title or id, without the way to it; numbers count in the first menu alone
      const found = entry.submenu ? into(entry, /^\d+$/.test(wanted) ? "" : wanted) : undefined;
      if (found) return found;
    }
    return undefined;
  }

  #tooDeep(): DiskError {
    return new DiskError(`${this.#path}: menus more than ${menusMax} deep`);
  }

  #open(entry: MenuEntry): Menu {
    const menu = new Menu();
    const outer = this.#loader.menu;
    this.#loader.menu = menu;
    this.#interpreter.flow = "next";
    this.#interpreter.call(entry.body, entry.args, entry.at);
    this.#loader.menu = outer;
    return menu;
  }

  #run(entry: MenuEntry): void {
    this.#interpreter.flow = "next";
    this.#environment.set("chosen", entry.id);
    // Ubuntu's entry without an initramfs: GRUB would write down that it was tried, and try again with one
    this.#environment.set("initrdfail", "1");
    this.#loader.loaded = undefined;
    if (entry.load) entry.load();
    else this.#interpreter.call(entry.body, entry.args, entry.at);
    if (this.#loader.loaded) return;
    throw new GrubError(entry.at, `the entry "${entry.title}" loads no kernel${this.#why()}`);
  }

  #why(): string {
    const all = [...this.#loader.refused, ...this.#loader.misses];
    return all.length === 0 ? "" : ` (${all.join("; ")})`;
  }

  #result(titles: readonly string[], config: string): GrubBoot {
    const title = titles.length === 0 ? config : pathOf(titles);
    const notes = [...this.#notes, ...this.#loader.misses];
    return { ...this.#loader.loaded!, title, config, notes };
  }
}
