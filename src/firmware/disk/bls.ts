/** Boot Loader Specification (UAPI.1), type 1: an entry a file, and the order of entries. */
import { compareText, compareVersions } from "./versions.ts";

export interface BlsEntry {
  /** The file's name without `.conf`. */
  readonly id: string;
  readonly title: string;
  readonly version: string;
  readonly sortKey: string;
  readonly machineId: string;
  readonly linux: string | undefined;
  /** A program for EFI instead of a kernel. */
  readonly efi: string | undefined;
  readonly initrds: readonly string[];
  readonly options: string;
  /** Boot counting has given it up: its name ends in "+0". */
  readonly failed: boolean;
}

const linesMax = 1000;
/** Characters of what entries are sorted by. */
const keyMost = 256;

export function readBlsEntry(fileName: string, text: string): BlsEntry {
  const values = new Map<string, string[]>();
  for (const line of text.split("\n", linesMax)) {
    const [, key = "", value = ""] = /^\s*([^#\s]\S*)\s+(.*?)\s*$/.exec(line) ?? [];
    if (key === "") continue;
    const known = values.get(key);
    if (known) known.push(value);
    else values.set(key, [value]);
  }
  const last = (key: string) => values.get(key)?.at(-1);
  const sorted = (key: string) => last(key)?.slice(0, keyMost) ?? "";
  const name = fileName.replace(/\.conf$/i, "");
  const [, id = name, left] = /^(.*)\+(\d+)(?:-\d+)?$/.exec(name) ?? [];
  return {
    id,
    title: last("title") ?? id,
    version: sorted("version"),
    sortKey: sorted("sort-key"),
    machineId: sorted("machine-id"),
    linux: last("linux"),
    efi: last("efi"),
    initrds: values.get("initrd") ?? [],
    options: (values.get("options") ?? []).join(" "),
    failed: left !== undefined && Number(left) === 0,
  };
}

/** Sorts as the specification says: sort keys, machines, newest first; names where there is no key. */
export function sortBlsEntries(entries: readonly BlsEntry[]): BlsEntry[] {
  return entries.toSorted((a, b) => {
    if (a.failed !== b.failed) return a.failed ? 1 : -1;
    if ((a.sortKey === "") !== (b.sortKey === "")) return a.sortKey === "" ? 1 : -1;
    if (a.sortKey !== "") {
      const order =
        compareText(a.sortKey, b.sortKey) ||
        compareText(a.machineId, b.machineId) ||
        compareVersions(b.version, a.version);
      if (order !== 0) return order;
    }
    return compareVersions(b.id, a.id);
  });
}
