/** Disks of files that are in the test, in place of images: what the boot loader sees of a file system. */
import type { FileSystem } from "../../../src/firmware/disk/file-system.ts";
import { DiskError, type Medium } from "../../../src/firmware/disk/medium.ts";
import type { PartitionTable } from "../../../src/firmware/disk/partitions.ts";
import { PartitionType, Volume, Volumes } from "../../../src/firmware/disk/volumes.ts";

export interface Tree {
  readonly number: number;
  readonly type?: "ext4" | "vfat";
  readonly label?: string;
  readonly uuid?: string;
  readonly partUuid?: string;
  readonly gptType?: string;
  readonly files: Readonly<Record<string, string | Uint8Array>>;
}

export const [esp] = PartitionType.esp;
export const [xbootldr] = PartitionType.boot;

export function fileSystem({ type = "ext4", label = "", uuid = "", files }: Tree): FileSystem {
  const same = (path: string) => (type === "vfat" ? path.toLowerCase() : path);
  const clean = (path: string) => same(`/${path.split("/").filter(Boolean).join("/")}`);
  const bytes = new Map(
    Object.entries(files).map(([path, content]) => [
      path,
      typeof content === "string" ? new TextEncoder().encode(content) : content,
    ]),
  );
  return {
    type,
    label,
    uuid,
    stat(path) {
      const found = this.readFile(path, Number.POSITIVE_INFINITY);
      const folder = this.list(path) !== undefined;
      return found || folder ? { folder, size: found?.length ?? 0 } : undefined;
    },
    readFile(path, limit) {
      const found = [...bytes].find(([name]) => same(name) === clean(path))?.[1];
      if (found && found.length > limit) throw new DiskError(`more than the ${limit} looked for`);
      return found;
    },
    list(path) {
      const folder = clean(path) === "/" ? "/" : `${clean(path)}/`;
      const inside = [...bytes.keys()].filter((name) => same(name).startsWith(folder));
      if (inside.length === 0 && folder !== "/") return undefined;
      return [...new Set(inside.map((name) => name.slice(folder.length).split("/")[0]!))];
    },
  };
}

const nothing: Medium = {
  size: 0,
  read() {
    throw new DiskError("nothing is there");
  },
};

export function disk(...trees: readonly Tree[]): Volumes {
  const partitions = trees.map(({ number, partUuid = "", gptType = "linux" }) => ({
    ...{ number, start: 0, size: 0, type: gptType, uuid: partUuid, name: "" },
  }));
  const table: PartitionTable = { kind: "gpt", partitions };
  const volumes = trees.map(
    (tree, i) => new Volume(nothing, partitions[i], `hd0,gpt${tree.number}`, fileSystem(tree)),
  );
  return new Volumes(volumes, table);
}
