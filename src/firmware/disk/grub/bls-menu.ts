/** Fedora's `blscfg`: menu entries of the files in /loader/entries, with GRUB's variables in them. */
import { type BlsEntry, readBlsEntry } from "../bls.ts";
import { compareVersions } from "../versions.ts";
import type { Environment } from "./environment.ts";
import type { CallContext } from "./interpreter.ts";
import type { FileAt, Loader } from "./loader.ts";
import { GrubError } from "./syntax.ts";

const filesMax = 1000;
const folders = ["/loader/entries", "/boot/loader/entries"];

export function blsEntries(loader: Loader, args: readonly string[], context: CallContext): boolean {
  const { at, interpreter } = context;
  const [given] = args;
  // Fedora's two halves of a menu: all entries belong to the first
  if (given === "non-default") return true;
  if (given !== undefined && given !== "default" && !given.startsWith("/")) {
    throw new GrubError(at, `chv does not know blscfg ${given}`);
  }
  const own = given?.startsWith("/") ? given : interpreter.environment.get("blsdir");
  const where = own === "" ? folders : [own];
  for (const device of devices(interpreter.environment)) {
    for (const folder of where) {
      const entries = entriesIn(loader, device, folder, context);
      for (const entry of entries) {
        // one for EFI is passed over, as GRUB does
        if (entry.linux !== undefined) addEntry(loader, entry, device, folder, context);
      }
      if (entries.length > 0) return true;
    }
  }
  loader.missed(at, `blscfg: no entries in ${where.join(" or ")}`);
  return false;
}

/** Where /boot may be: `boot` where the configuration has set it, else where it looks for files, or lies itself. */
function devices(environment: Environment): string[] {
  const own = /^\(([^)]*)\)/.exec(environment.get("prefix"))?.[1] ?? "";
  const names = [environment.get("boot"), environment.get("root"), own];
  return [...new Set(names.filter((name) => name !== ""))];
}

/** Newest first, by the files' names. */
function entriesIn(
  loader: Loader,
  device: string,
  folder: string,
  { at }: CallContext,
): BlsEntry[] {
  const place = loader.locate(`(${device})${folder}`, at);
  const names = place && loader.stat(place, at)?.folder ? listed(place) : [];
  const entries = names.slice(0, filesMax).map((name) => {
    const file = { volume: place!.volume, path: `${folder}/${name}` };
    return readBlsEntry(name, loader.readText(file, at) ?? "");
  });
  return entries.sort((a, b) => compareVersions(b.id, a.id));
}

const listed = ({ volume, path }: FileAt): string[] =>
  (volume.readable?.list(path) ?? []).filter((name) => /\.conf$/i.test(name));

function addEntry(
  loader: Loader,
  entry: BlsEntry,
  device: string,
  folder: string,
  context: CallContext,
): void {
  const { interpreter } = context;
  const at = { file: `${folder}/${entry.id}.conf`, line: 1 };
  const filled = (text: string): string =>
    text.replace(/\$(?:\{(\w+)\}|(\w+))/g, (_, braced?: string, plain?: string) => {
      const value = interpreter.environment.get((braced ?? plain)!);
      interpreter.spend(value.length, at);
      return value;
    });
  const on = (path: string) => (path.startsWith("(") ? path : `(${device})${path}`);
  const words = (text: string) =>
    filled(text)
      .split(/\s+/)
      .filter((word) => word !== "");
  loader.menu.add({
    ...{ title: entry.title, id: entry.id, at, submenu: false, body: [], args: [] },
    load: () => {
      if (entry.linux === undefined) throw new GrubError(at, "the entry names no linux");
      const call = (name: string, args: readonly string[]) =>
        interpreter.handlers(name)!(args, { interpreter, at, block: undefined });
      call("linux", [on(filled(entry.linux)), ...words(entry.options)]);
      const initrds = entry.initrds.flatMap(words);
      if (initrds.length > 0) call("initrd", initrds.map(on));
    },
  });
}
