/** The parts of a disk and what lies on them; file systems are opened when they are asked for. */
import { Ext4 } from "./ext4/ext4.ts";
import { Fat } from "./fat.ts";
import type { FileSystem } from "./file-system.ts";
import { DiskError, type Medium, metered, part } from "./medium.ts";
import { type Partition, type PartitionTable, readPartitions } from "./partitions.ts";
import { type Content, contentNames, probeContent } from "./probe-content.ts";

/** Types of partitions that loaders look for (Discoverable Partitions Specification). */
export const PartitionType = {
  esp: ["c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0xef"],
  /** The extended boot loader partition: /boot. */
  boot: ["bc13c2ff-59e6-4262-a352-b275fd6f7172", "0xea"],
} as const;

/** Of a disk, in bytes: kernel, initramfs and a journal are the most of it. */
const readMost = 3 * 2 ** 30;

/** Characters of a path in a message. */
const pathMost = 100;

/** The same, whose errors say where they were met. */
function placed(files: FileSystem, place: string): FileSystem {
  const at = <T>(path: string, read: () => T): T => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      throw new DiskError(`${path.slice(0, pathMost)} on ${place}: ${error.message}`);
    }
  };
  const { type, label, uuid } = files;
  return {
    ...{ type, label, uuid },
    readFile: (path, limit) => at(path, () => files.readFile(path, limit)),
    stat: (path) => at(path, () => files.stat(path)),
    list: (path) => at(path, () => files.list(path)),
  };
}

export class Volume {
  #opened: FileSystem | undefined;
  #content: Content | undefined;
  #problem: DiskError | undefined;

  /** `partition` is undefined where the file system has the disk for itself. */
  constructor(
    readonly medium: Medium,
    readonly partition: Partition | undefined,
    /** The disk's name in GRUB, and the partition's: "hd0,gpt1". */
    readonly device: string,
    files?: FileSystem,
  ) {
    this.#opened = files;
    if (files) this.#content = files.type === "vfat" ? "vfat" : "ext";
  }

  /** "unknown" also for what cannot be read. */
  get content(): Content {
    if (this.#content === undefined) {
      try {
        this.#content = probeContent(this.medium);
      } catch (error) {
        this.#content = "unknown";
        this.#fail(error);
      }
    }
    return this.#content;
  }

  #fail(error: unknown): void {
    if (!(error instanceof DiskError)) throw error;
    this.#problem = new DiskError(`${this.name}: ${error.message}`);
  }

  /** What it holds, where that can be read; the same each time. Throws DiskError when it is broken. */
  get files(): FileSystem | undefined {
    if (this.#opened) return this.#opened;
    const { content } = this;
    if (this.#problem === undefined) {
      try {
        if (content === "ext") this.#opened = placed(new Ext4(this.medium), this.name);
        if (content === "vfat") this.#opened = placed(new Fat(this.medium), this.name);
      } catch (error) {
        this.#fail(error);
      }
    }
    if (this.#problem) throw this.#problem;
    return this.#opened;
  }

  /** The same; undefined also for what is broken. */
  get readable(): FileSystem | undefined {
    try {
      return this.files;
    } catch (error) {
      if (error instanceof DiskError) return undefined;
      throw error;
    }
  }

  get name(): string {
    return this.partition ? `partition ${this.partition.number}` : "the whole disk";
  }

  /** "partition 1 (ext4 "cloudimg-rootfs")". */
  get shown(): string {
    const files = this.readable;
    if (this.#problem) return this.#problem.message;
    const label = files && files.label !== "" ? ` "${files.label}"` : "";
    return `${this.name} (${files ? files.type : contentNames[this.content]}${label})`;
  }

  hasType(types: readonly string[]): boolean {
    return this.partition !== undefined && types.includes(this.partition.type);
  }
}

export class Volumes {
  constructor(
    readonly all: readonly Volume[],
    readonly table: PartitionTable | undefined,
  ) {}

  /** Throws DiskError when the partition table is broken. */
  static of(disk: Medium): Volumes {
    const read = metered(disk, readMost);
    const whole = new Volume(read, undefined, "hd0");
    // the boot sector of a FAT can pass for a partition table
    const table = ["ext", "vfat"].includes(whole.content) ? undefined : readPartitions(read);
    if (!table) return new Volumes([whole], undefined);
    const kind = table.kind === "mbr" ? "msdos" : "gpt";
    const volumes = table.partitions.map(
      (one) => new Volume(part(read, one.start, one.size), one, `hd0,${kind}${one.number}`),
    );
    return new Volumes(volumes, table);
  }

  /** By GRUB's name of it, with or without parentheses: "hd0,gpt1", "hd0,1", "hd0". */
  byDevice(text: string): Volume | undefined {
    const name = text.replace(/^\((.*)\)$/, "$1");
    const number = /^hd0,(?:gpt|msdos)?(\d{1,5})$/.exec(name)?.[1];
    if (number === undefined) return name === "hd0" && !this.table ? this.all[0] : undefined;
    return this.all.find(({ partition }) => partition?.number === Number(number));
  }

  /** The partition that Linux's `root=` names on this disk, if it does. */
  byRoot(root: string): Volume | undefined {
    const [, key = "", value = ""] = /^(LABEL|UUID|PARTUUID|PARTLABEL)="?(.*?)"?$/.exec(root) ?? [];
    const wanted = value.toLowerCase();
    return this.all.find((volume) => {
      const { partition } = volume;
      switch (key) {
        case "PARTUUID":
          return partition?.uuid === wanted;
        case "PARTLABEL":
          return partition?.name === value;
        case "UUID":
          return volume.readable?.uuid.toLowerCase() === wanted;
        case "LABEL":
          return volume.readable?.label === value;
        default:
          return /^\/dev\/[a-z]+d[a-z](\d*)$/.exec(root)?.[1] === `${partition?.number ?? ""}`;
      }
    });
  }

  /** All of it in a line. */
  get shown(): string {
    const kind = this.table ? `${this.table.kind.toUpperCase()}: ` : "";
    return `${kind}${this.all.map((volume) => volume.shown).join(", ")}`;
  }
}
