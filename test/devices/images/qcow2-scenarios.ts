/** Images of many kinds, made by qemu-img, for runs of random requests. */
import { execFileSync } from "node:child_process";
import { appendFileSync, existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Scenario {
  readonly name: string;
  /** Options of qemu-img create and convert. */
  readonly options: string;
  readonly size?: number;
  /** The disk holds something, by sector, when the image is made. */
  readonly filled?: boolean;
  readonly compressed?: boolean;
  readonly snapshot?: boolean;
  /** Bytes of a raw file below the image. */
  readonly backing?: number;
  /** The file is longer than its tables know, and full of something. */
  readonly garbage?: boolean;
}

export interface MadeImage {
  readonly path: string;
  readonly size: number;
  /** What the disk holds. */
  readonly content: Uint8Array;
  /** What lies below it. */
  readonly backing?: Uint8Array;
}

/** Disks are small, so that a run comes by every place often. */
const defaultSize = 2 ** 17;

export const scenarios: readonly Scenario[] = [
  { name: "clusters of 512 bytes", options: "cluster_size=512" },
  { name: "version 2", options: "cluster_size=512,compat=0.10" },
  { name: "refcounts of 1 bit", options: "cluster_size=512,refcount_bits=1" },
  { name: "refcounts of 64 bits", options: "cluster_size=512,refcount_bits=64" },
  { name: "clusters of 4 KiB", options: "cluster_size=4k,refcount_bits=4" },
  { name: "a snapshot", options: "cluster_size=1k", filled: true, snapshot: true },
  {
    ...{ name: "a snapshot in version 2", options: "cluster_size=512,compat=0.10" },
    ...{ filled: true, snapshot: true },
  },
  { name: "a shorter backing file", options: "cluster_size=1k", backing: 80_000 },
  {
    ...{ name: "a backing file in version 2", options: "cluster_size=2k,compat=0.10" },
    ...{ backing: 100_000, size: 2 ** 17 - 512 },
  },
  { name: "compressed clusters", options: "cluster_size=4k", filled: true, compressed: true },
  {
    ...{ name: "compressed clusters and a snapshot", options: "cluster_size=2k,refcount_bits=8" },
    ...{ filled: true, compressed: true, snapshot: true },
  },
  { name: "garbage behind the end", options: "cluster_size=2k", garbage: true },
  // a second refcount block comes to lie in it
  { name: "garbage for tables", options: "cluster_size=512", garbage: true },
  { name: "preallocated clusters", options: "cluster_size=1k,preallocation=metadata" },
];

/** A folder for images, in memory where there is room for it: what is tested is not the disk's patience. */
export function testFolder(): string {
  return mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "chv-qcow2-"));
}

export function qemuImg(folder: string, ...args: string[]): string {
  return execFileSync("qemu-img", args, { cwd: folder, encoding: "utf8" });
}

/** Each sector is full of a number of its own. */
export function numbered(bytes: number, first: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(bytes / 512) * 128);
  for (let i = 0; i < words.length; i++) words[i] = first + Math.floor(i / 128);
  return new Uint8Array(words.buffer, 0, bytes);
}

/** Makes an image; where two have the same name in a folder, the later replaces the first. */
export function makeImage(folder: string, scenario: Scenario): MadeImage {
  const { size = defaultSize, options, filled, compressed, snapshot } = scenario;
  const name = `${scenario.name.replaceAll(" ", "-")}.qcow2`;
  const path = join(folder, name);
  const content = new Uint8Array(size);
  if (filled) {
    content.set(numbered(size, 0x1000_0000));
    writeFileSync(join(folder, "content"), content);
    const convert = ["convert", "-f", "raw", "-O", "qcow2", "-o", options];
    qemuImg(folder, ...convert, ...(compressed ? ["-c"] : []), "content", name);
  } else if (scenario.backing !== undefined) {
    const backing = numbered(Math.floor(scenario.backing / 512) * 512, 0x2000_0000);
    writeFileSync(join(folder, `${name}.base`), backing);
    content.set(backing);
    const below = ["-b", `${name}.base`, "-F", "raw"];
    qemuImg(folder, "create", "-q", "-f", "qcow2", "-o", options, ...below, name, `${size}`);
    return { path, size, content, backing };
  } else {
    qemuImg(folder, "create", "-q", "-f", "qcow2", "-o", options, name, `${size}`);
  }
  if (scenario.garbage) appendFileSync(path, new Uint8Array(2 ** 18).fill(0xa5));
  if (snapshot) qemuImg(folder, "snapshot", "-c", "one", name);
  return { path, size, content };
}
