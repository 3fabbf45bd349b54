/** GRUB's menu: entries, entries of entries, and which one a `default` means (normal/menu.c). */
import { type Block, GrubError, type Place } from "./syntax.ts";

export interface MenuEntry {
  readonly title: string;
  /** What `--id` gave; the title otherwise. */
  readonly id: string;
  readonly at: Place;
  readonly submenu: boolean;
  readonly body: Block;
  /** `$1` and on in the body. */
  readonly args: readonly string[];
  /** In place of the body: entries that do not come from a script. */
  readonly load?: () => void;
}

const entriesMax = 2000;

export class Menu {
  readonly entries: MenuEntry[] = [];

  /** Throws GrubError. */
  add(entry: MenuEntry): void {
    if (this.entries.length >= entriesMax) {
      throw new GrubError(entry.at, `more than ${entriesMax} entries`);
    }
    this.entries.push(entry);
  }
}

/** The first of "a>b>c" and the rest; ">>" is a ">" of a title. */
export function splitPath(path: string): [first: string, rest: string] {
  const [, first = path, rest = ""] = /^((?:[^>]|>>)*)>(?!>)(.*)$/s.exec(path) ?? [];
  return [first.replaceAll(">>", ">"), rest];
}

/** The entry that a number, an id or a title means. */
export function entryOf(menu: Menu, wanted: string): MenuEntry | undefined {
  if (/^\d{1,9}\s*$/.test(wanted)) return menu.entries[Number(wanted)];
  return menu.entries.find(({ id, title }) => title === wanted || id === wanted);
}
