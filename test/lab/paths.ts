/** Where things are: the project, its cache, the lab's own folder and the guests' kernels. */

import { accessSync, constants, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The project's root, without a slash at the end. */
export const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
export const cache = `${root}/.cache`;
export const labFolder = `${cache}/lab`;
/** The guests' plain initramfs, which `./dev initramfs` builds. */
export const initramfsFile = `${cache}/initramfs.cpio`;

export type KernelName = "6.12-cloud" | "6.1-cloud" | "6.12-generic";

/** A file of a kernel that `./dev kernel NAME` fetched. */
export function kernelFile(name: KernelName, file: "vmlinuz" | "vmlinux" | "config"): string {
  return `${cache}/kernels/${name}/${file}`;
}

/**
 * Whether /dev/kvm of this machine runs Linux: hardware virtualisation, and usable by this user.
 * CHV_LAB=1 says no in any case, so that the lab is used.
 */
export function kvmRunsLinux(): boolean {
  if (process.env.CHV_LAB === "1") return false;
  if (!/^flags\s*:.*\b(vmx|svm)\b/m.test(readFileSync("/proc/cpuinfo", "utf8"))) return false;
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** The path by which the lab sees a file of the host: its own /tmp, /run and /dev hide the host's. */
export function pathInLab(path: string): string {
  const hidden = /^\/(tmp|run|dev)\//.test(path) && !path.startsWith(`${root}/`);
  return hidden ? `/lab-host${path}` : path;
}
