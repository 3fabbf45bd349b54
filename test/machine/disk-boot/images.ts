/** Disk images with a boot set-up, made by sgdisk, mke2fs and mkfs.vfat: the layouts that clouds hand out. */
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const env = {
  ...process.env,
  PATH: `${process.env.PATH}:/usr/sbin:/sbin`,
  MTOOLS_SKIP_CHECK: "1",
};

export function run(...command: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { env });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
  return stdout.toString();
}

export type Files = Readonly<Record<string, string | Uint8Array>>;

export interface PartitionOf {
  readonly number: number;
  /** sgdisk's type code. */
  readonly type?: string;
  readonly mebibytes: number;
  /** None: nothing is on it. */
  readonly format?: "ext4" | "vfat";
  readonly label?: string;
  readonly files?: Files;
}

const MiB = 2 ** 20;

function tree(folder: string, files: Files): void {
  mkdirSync(folder, { recursive: true });
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
}

function contentOf(path: string, part: PartitionOf): Uint8Array {
  const { format, label = "", files = {}, mebibytes } = part;
  writeFileSync(path, "");
  truncateSync(path, mebibytes * MiB);
  tree(`${path}.d`, files);
  if (format === "ext4")
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", `${path}.d`, "-L", label, path);
  if (format === "vfat") {
    run("mkfs.vfat", "-n", label, path);
    const tops = [...new Set(Object.keys(files).map((name) => name.split("/")[1]!))];
    for (const top of tops) run("mcopy", "-s", "-i", path, join(`${path}.d`, top), "::/");
  }
  return readFileSync(path);
}

/** A GPT with these partitions, in their order on the disk. */
export function gptImage(path: string, parts: readonly PartitionOf[]): string {
  const commands: string[] = [];
  let at = 1;
  const places = parts.map((part) => {
    const start = at;
    at += part.mebibytes;
    const last = at * 2048 - 1;
    const { number, type = "8300" } = part;
    commands.push("-n", `${number}:${start * 2048}:${last}`, "-t", `${number}:${type}`);
    return start * MiB;
  });
  const whole = new Uint8Array((at + 1) * MiB);
  for (const [i, part] of parts.entries()) {
    if (part.format) whole.set(contentOf(`${path}.${part.number}`, part), places[i]!);
  }
  writeFileSync(path, whole);
  run("sgdisk", ...commands, path);
  return path;
}
