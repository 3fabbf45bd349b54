/**
 * A disk with programs of this machine that busybox has not (fio, iperf3, util-linux's), and the libraries that they
 * are linked with. A guest mounts it: `mountTools`.
 */

import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { basename } from "node:path";
import { cache } from "../lab/paths.ts";

/** Debian's packages of them are fio, iperf3 and util-linux. */
const programs = ["fio", "iperf3", "blkdiscard", "fallocate"];
const loader = "/lib64/ld-linux-x86-64.so.2";
const file = `${cache}/e2e/tools.ext4`;
const sizeMiB = 128;

/** What a guest does to have the tools, of which /dev/DISK is the disk; it needs virtio_blk. */
export const mountTools = (disk: string) =>
  [
    `mount -t ext4 -o ro /dev/${disk} /mnt`,
    "ln -s /mnt/lib64 /lib64; ln -s /mnt/lib /lib; export PATH=/mnt/bin:$PATH",
  ].join("\n");

/** The disk's image, an ext4 file system; it is made anew when a program is newer than it. */
export function toolsImage(): string {
  const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  const found = programs.map((name) => {
    const program = Bun.which(name, { PATH: path });
    if (!program) throw new Error(`there is no ${name} here; ./dev test linux installs it`);
    return program;
  });
  const made = existsSync(file) ? statSync(file).mtimeMs : 0;
  if (found.every((program) => statSync(program).ctimeMs < made)) return file;
  const unfinished = `${file}.${process.pid}`;
  const folder = `${unfinished}.folder`;
  try {
    fill(folder, found);
    const made = Bun.spawnSync(
      ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", folder, unfinished, `${sizeMiB}M`],
      { env: { ...process.env, PATH: path } },
    );
    if (made.exitCode !== 0) throw new Error(made.stderr.toString());
    renameSync(unfinished, file);
  } finally {
    rmSync(folder, { recursive: true, force: true });
    rmSync(unfinished, { force: true });
  }
  return file;
}

function fill(folder: string, found: readonly string[]): void {
  for (const name of ["bin", "lib64", "lib/x86_64-linux-gnu"]) {
    mkdirSync(`${folder}/${name}`, { recursive: true });
  }
  copyFileSync(loader, `${folder}${loader}`);
  for (const program of found) {
    copyFileSync(program, `${folder}/bin/${basename(program)}`);
    const { stdout } = Bun.spawnSync(["ldd", program]);
    for (const [, library] of stdout.toString().matchAll(/ => (\/\S+)/g)) {
      copyFileSync(library!, `${folder}/lib/x86_64-linux-gnu/${basename(library!)}`);
    }
  }
}
