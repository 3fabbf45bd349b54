/** The lab's own initramfs: `init`, `agent`, busybox and the modules that the lab's kernel needs. */

import { readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { busybox } from "../e2e/initramfs/build.ts";
import { type CpioEntry, cpio } from "../e2e/initramfs/cpio.ts";
import { cache, labFolder, root } from "./paths.ts";

/** What the lab offers: KVM, its own network, taps, the vhost devices, the overlay of its root. */
const wanted = [
  "overlay",
  "kvm-amd",
  "virtio_net",
  "virtio_blk",
  "tun",
  "tap",
  "vhost_net",
  "vhost_vsock",
];

const modulesFolder = `${cache}/kernels/6.12-cloud/modules`;

/** The modules' files, each after those it depends on (modules.dep of depmod(8)). */
export function moduleOrder(names: readonly string[], dependencies: string): string[] {
  const files = new Map<string, string>(); //     module name → path
  const needs = new Map<string, string[]>(); //   path → paths, nearest dependency first
  for (const line of dependencies.split("\n")) {
    const [path, rest] = line.split(":");
    if (!path || rest === undefined) continue;
    files.set(basename(path, ".ko").replaceAll("-", "_"), path);
    needs.set(path, rest.trim().split(" ").filter(Boolean));
  }
  const order = new Set<string>();
  const add = (path: string) => {
    for (const need of (needs.get(path) ?? []).toReversed()) add(need);
    order.add(path);
  };
  for (const name of names) {
    const path = files.get(name.replaceAll("-", "_"));
    if (path) add(path); // else it is built into this kernel
  }
  return [...order];
}

/** The archive. `idleMinutes` without a command, and the lab powers itself off. */
export function labImage(idleMinutes: number): Buffer<ArrayBuffer> {
  const [release] = readdirSync(modulesFolder);
  if (!release) throw new Error(`${modulesFolder} is empty; remove .cache/kernels and try again`);
  const modules = moduleOrder(
    wanted,
    readFileSync(`${modulesFolder}/${release}/modules.dep`, "utf8"),
  );
  const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
  const conf = [
    `share=${quoted(root)}`,
    `state=${quoted(labFolder)}`,
    `modules=${quoted(modulesFolder)}`,
    `idle=${idleMinutes}`,
  ];
  const own = (name: string) => readFileSync(fileURLToPath(new URL(name, import.meta.url)));
  const order = modules.map((path) => basename(path, ".ko")).join("\n");
  const files: [path: string, data: Uint8Array][] = [
    ["init", own("init")],
    ["agent", own("agent")],
    ["bin/busybox", busybox()],
    ["lab.conf", Buffer.from(`${conf.join("\n")}\n`)],
    ["modules/order", Buffer.from(`${order}\n`)],
    ...modules.map((path): [string, Uint8Array] => [
      `modules/${basename(path)}`,
      readFileSync(`${modulesFolder}/${release}/${path}`),
    ]),
  ];
  return cpio([
    ...["bin", "dev", "lower", "modules", "newroot", "proc", "sys", "upper"].map(
      (path): CpioEntry => ({ path, kind: "folder" }),
    ),
    { path: "dev/console", kind: "character device", major: 5, minor: 1, mode: 0o600 },
    ...files.map(([path, data]): CpioEntry => ({ path, kind: "file", data, mode: 0o755 })),
  ]);
}
