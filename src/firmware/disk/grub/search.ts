/** GRUB's `search`, `search.fs_uuid` and the like, and `probe`: partitions by label, UUID or file. */
import { DiskError } from "../medium.ts";
import type { Volume } from "../volumes.ts";
import type { CallContext, Handler } from "./interpreter.ts";
import type { Loader } from "./loader.ts";
import { GrubError } from "./syntax.ts";

type Key = "fs-uuid" | "label" | "file";

const keys: Readonly<Record<string, Key>> = {
  "-u": "fs-uuid",
  "--fs-uuid": "fs-uuid",
  "-l": "label",
  "--label": "label",
  "-f": "file",
  "--file": "file",
};
const ignored = /^(?:-n|--no-floppy|--efidisk-only|--cryptodisk-only|--root-dev-only)$/;

export function searchHandlers(loader: Loader): Readonly<Record<string, Handler>> {
  const short = (key: Key): Handler => {
    // search.fs_uuid UUID [VARIABLE [HINT…]]
    return ([id = "", variable = "root"], context) => find(loader, key, id, variable, context);
  };
  return {
    search: (args, context) => {
      const { key, variable, id } = readSearch(args, context);
      return find(loader, key, id, variable, context);
    },
    "search.fs_uuid": short("fs-uuid"),
    "search.fs_label": short("label"),
    "search.file": short("file"),
    probe: (args, context) => probe(loader, args, context),
  };
}

function readSearch(args: readonly string[], { at }: CallContext) {
  let key: Key = "file";
  let variable: string | undefined;
  const rest: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    const [name, value] = arg.startsWith("--") ? splitOption(arg) : [arg, undefined];
    // a value stands behind the option as well (GRUB's lib/arg.c)
    const next = () => (/^(?!-)/.test(args[i + 1] ?? "-") ? args[++i] : undefined);
    if (Object.hasOwn(keys, name)) key = keys[name]!;
    else if (name === "--set" || name === "-s") variable = value ?? next() ?? "root";
    else if (/^--hint(?:-\w+)?$/.test(name) || name === "-h") {
      if (value === undefined) next(); // the places that it should look at first
    } else if (ignored.test(name)) continue;
    else if (/^-./.test(name)) throw new GrubError(at, `chv does not know search ${name}`);
    else rest.push(arg);
  }
  // GRUB 1.98 wrote "--set UUID"
  const [id] = rest;
  return id === undefined ? { key, variable: "root", id: variable ?? "" } : { key, variable, id };
}

function splitOption(arg: string): [string, string | undefined] {
  const equals = arg.indexOf("=");
  return equals < 0 ? [arg, undefined] : [arg.slice(0, equals), arg.slice(equals + 1)];
}

function find(
  loader: Loader,
  key: Key,
  id: string,
  variable: string | undefined,
  { interpreter, at }: CallContext,
): boolean {
  if (id === "") throw new GrubError(at, "search for nothing");
  const wanted = id.toLowerCase();
  const found = loader.volumes.all.find((volume) => {
    const files = volume.readable;
    if (!files) return false;
    if (key === "file") return files.stat(id) !== undefined;
    return key === "label" ? files.label === id : files.uuid.toLowerCase() === wanted;
  });
  if (!found) {
    loader.missed(at, `no partition with ${key === "file" ? "the file" : key} ${id}`);
    return false;
  }
  if (variable !== undefined) interpreter.environment.set(variable, found.device);
  return true;
}

const probes: Readonly<Record<string, (volume: Volume) => string | undefined>> = {
  "--fs-uuid": (volume) => volume.files?.uuid,
  "--label": (volume) => volume.files?.label,
  "--fs": (volume) => (volume.files?.type === "ext4" ? "ext2" : volume.files?.type),
  "--part-uuid": (volume) => volume.partition?.uuid,
};
const probesShort: Readonly<Record<string, string>> = { u: "--fs-uuid", l: "--label", f: "--fs" };

/** `probe --set=VARIABLE --fs-uuid DEVICE`. */
function probe(loader: Loader, args: readonly string[], context: CallContext): boolean {
  const { interpreter, at } = context;
  let asked: string | undefined;
  let variable: string | undefined;
  let device = "";
  for (let i = 0; i < args.length; i++) {
    const [name, value] = splitOption(args[i]!);
    const long = probesShort[name.slice(1)] ?? name;
    if (name === "--set" || name === "-s") variable = value ?? args[++i];
    else if (Object.hasOwn(probes, long)) asked = long;
    else if (/^-./.test(name)) throw new GrubError(at, `chv does not know probe ${name}`);
    else device = args[i]!;
  }
  const volume = loader.volumes.byDevice(device);
  if (!volume || asked === undefined) return false;
  const value = probes[asked]!(volume);
  if (value === undefined)
    throw new DiskError(`${volume.shown}: nothing that probe ${asked} tells`);
  if (variable !== undefined) interpreter.environment.set(variable, value);
  return true;
}
