/**
 * The guests' initramfs, from Debian's static busybox: `bun test/e2e/initramfs/build.ts OUT`.
 * `initramfs()` makes others, with more files in them.
 */

import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { type CpioEntry, cpio } from "./cpio.ts";
import { debugPortProgram } from "./debug-port.ts";

/** What a test adds to the plain initramfs. */
export interface InitramfsAdditions {
  /** Files by path ("run.sh", "etc/x"); all are executable, their folders are made. */
  readonly files?: Readonly<Record<string, Uint8Array | string>>;
  /** Kernel modules (.ko files of the host), for `load` in the guest. */
  readonly modules?: readonly string[];
}

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** The host's static busybox; a dynamic one would find no C library in the guest. */
export function busybox(): Buffer {
  const file = ["/usr/bin/busybox", "/bin/busybox"].find((path) => existsSync(path));
  if (!file) throw new Error("there is no busybox here; install Debian's busybox-static");
  const bytes = readFileSync(file);
  if (bytes.includes("/lib64/ld-linux")) {
    throw new Error(`${file} is dynamically linked; install Debian's busybox-static`);
  }
  return bytes;
}

/** The archive: init, busybox, `debug-port`, `load`, and what is added. */
export function initramfs(additions: InitramfsAdditions = {}): Buffer<ArrayBuffer> {
  const files: Record<string, Uint8Array> = {
    init: readFileSync(here("init")),
    "bin/busybox": busybox(),
    "bin/debug-port": debugPortProgram(),
    "bin/load": readFileSync(here("load")),
  };
  for (const path of additions.modules ?? [])
    files[`modules/${basename(path)}`] = readFileSync(path);
  for (const [path, data] of Object.entries(additions.files ?? {})) files[path] = Buffer.from(data);

  const folders = new Set(["bin", "dev", "proc", "sys", "tmp", "mnt"]);
  for (const path of Object.keys(files)) addFolders(folders, dirname(path));
  return cpio([
    ...[...folders].sort().map((path): CpioEntry => ({ path, kind: "folder" })),
    { path: "dev/console", kind: "character device", major: 5, minor: 1, mode: 0o600 },
    ...Object.entries(files).map(
      ([path, data]): CpioEntry => ({ path, kind: "file", data, mode: 0o755 }),
    ),
  ]);
}

function addFolders(folders: Set<string>, path: string): void {
  if (path === ".") return;
  addFolders(folders, dirname(path));
  folders.add(path);
}

/** The words of a kernel command line that run a script in the guest and then end it. */
export function guestScript(
  script: string,
  end: "poweroff" | "reboot" | "panic" | "halt" | "shell" = "poweroff",
): string {
  return `chv.run=${Buffer.from(script).toString("base64")} chv.end=${end}`;
}

/** Writes the archive unless the file already holds it. */
export function writeInitramfs(file: string, additions: InitramfsAdditions = {}): void {
  const archive = initramfs(additions);
  if (existsSync(file) && archive.equals(readFileSync(file))) return;
  mkdirSync(dirname(file), { recursive: true });
  const unfinished = `${file}.${process.pid}`;
  writeFileSync(unfinished, archive);
  renameSync(unfinished, file);
}

if (import.meta.main) {
  const [file] = process.argv.slice(2);
  if (!file) throw new Error("build.ts OUT");
  writeInitramfs(file);
}
