/**
 * What makes a configuration impossible although each field of it is good. All of it is a
 * ConfigError, one line.
 */
import { maxPorts } from "../../devices/virtio/console-config.ts";
import { ConfigError } from "../../exit-codes.ts";
import { ramGranule, ramHole, ramMinimum } from "./machine.ts";
import { unbuilt } from "./unbuilt.ts";
import type { BootConfig, VmConfig } from "./vm.ts";
import type { VmmOptions } from "./vmm.ts";

/** An option that does not fit, and why and what to do; undefined when all is well. */
type Rule = (vm: VmConfig) => readonly [option: string, problem: string] | undefined;

const MiB = 2 ** 20;

const rules: readonly Rule[] = [
  ({ cpus }) =>
    cpus.boot_vcpus > cpus.max_vcpus
      ? ["--cpus", `boot=${cpus.boot_vcpus} is above max=${cpus.max_vcpus}; raise max`]
      : undefined,
  ({ cpus }) => {
    const { topology, max_vcpus: max } = cpus;
    if (topology === undefined) return undefined;
    const counts = [
      topology.threads_per_core,
      topology.cores_per_die,
      topology.dies_per_package,
      topology.packages,
    ];
    const product = counts.reduce((all, one) => all * one, 1);
    if (product === max) return undefined;
    return [
      "--cpus",
      `topology=${counts.join(":")} makes ${product} vCPUs, max is ${max}; make them equal`,
    ];
  },
  ({ memory }) =>
    memory.size < ramMinimum
      ? ["--memory", `size=${memory.size} is below ${ramMinimum / MiB}M; give more`]
      : undefined,
  ({ memory }) => wholePages("size", memory.size, memory.hugepages),
  ({ memory }) => wholePages("hotplug_size", memory.hotplug_size, memory.hugepages),
  ({ memory, cpus }) => {
    const end = memory.size + memory.hotplug_size + ramHole;
    if (end <= 2 ** cpus.max_phys_bits) return undefined;
    const bits = `${cpus.max_phys_bits} physical address bits`;
    return [
      "--memory",
      `size and hotplug_size do not fit ${bits}; lower them, or raise --cpus max_phys_bits=`,
    ];
  },
  ({ memory }) => {
    if (!memory.mergeable) return undefined;
    const other = memory.shared
      ? "shared=on"
      : memory.hugepages
        ? "hugepages=on"
        : memory.file !== undefined
          ? "file="
          : undefined;
    if (other === undefined) return undefined;
    return [
      "--memory",
      `mergeable=on and ${other} exclude each other (only private anonymous pages merge); drop one`,
    ];
  },
  ({ memory }) =>
    memory.hugepages && memory.file !== undefined
      ? [
          "--memory",
          "hugepages=on and file= exclude each other; drop one (a hugetlbfs file has huge pages)",
        ]
      : undefined,
  ({ serial }) => farEnd("--serial", serial),
  ({ console }) => farEnd("--console", console),
  ({ ports = [] }) => {
    for (const port of ports) {
      const broken = farEnd(`--port ${port.name}`, port);
      if (broken) return broken;
    }
    return undefined;
  },
  ({ ports = [] }) => {
    if (ports.length > maxPorts) {
      return ["--port", `${ports.length} ports, and ${maxPorts} is the most; give fewer`];
    }
    const twin = ports.find(({ name }, i) => ports.findIndex((one) => one.name === name) < i);
    return twin && [`--port ${twin.name}`, "the name is given twice; choose another"];
  },
  (vm) => {
    const [one, other] = onTerminal(vm);
    if (one === undefined || other === undefined) return undefined;
    const choices = "off, null, pty, file= or socket=";
    return [`${one} and ${other}`, `both want the terminal; set one of them to ${choices}`];
  },
];

/** The options that want the terminal. */
function onTerminal({ serial, console, ports = [] }: VmConfig): string[] {
  const options: string[] = [];
  if (serial.mode === "Tty") options.push("--serial tty");
  if (console.mode === "Tty") options.push("--console tty");
  for (const { mode, name } of ports) if (mode === "Tty") options.push(`--port ${name},mode=tty`);
  return options;
}

function wholePages(key: string, bytes: number, huge: boolean): ReturnType<Rule> {
  const page = huge ? 2 * MiB : ramGranule;
  if (bytes % page === 0) return undefined;
  const pages = huge ? "huge pages of 2M" : "pages of 4K";
  return ["--memory", `${key}=${bytes} is not a whole number of ${pages}; round it`];
}

function farEnd(
  option: string,
  device: Pick<VmConfig["serial"], "mode" | "file" | "socket">,
): ReturnType<Rule> {
  for (const [mode, key] of [
    ["File", "file"],
    ["Socket", "socket"],
  ] as const) {
    const given = device[key] !== undefined;
    if (device.mode === mode && !given) {
      return [option, `${key} needs a path; write ${key}=PATH`];
    }
    if (device.mode !== mode && given) {
      return [option, `${device.mode.toLowerCase()} and ${key}= exclude each other; drop one`];
    }
  }
  return undefined;
}

/** Fails with a ConfigError on the first rule that the configuration breaks. */
export function checkConfig(vm: VmConfig): void {
  for (const rule of rules) {
    const broken = rule(vm);
    if (broken) throw new ConfigError(`${broken[0]}: ${broken[1]}`, broken[0].split(" ")[0]);
  }
}

/** What a boot asks beyond that: a firmware, a kernel or a disk to find one on, and nothing that is not built. */
export function checkBoot(vm: VmConfig, vmm?: VmmOptions): BootConfig {
  checkConfig(vm);
  const missing = unbuilt.find(({ asked }) => asked(vm, vmm));
  if (missing !== undefined) {
    const { option, except } = missing;
    const what = `not built in this version of chv${except ? ` but for ${except}` : ""}`;
    throw new ConfigError(`${option}: ${what}; leave it out`, option.split(" ")[0]);
  }
  checkKernel(vm);
  return vm;
}

/** What says how a kernel is booted, and means nothing to a firmware. */
const forKernels = [
  ["--kernel", "kernel", "is booted in place of what a firmware finds"],
  ["--initramfs", "initramfs", "goes with a kernel, and --firmware brings its own"],
  ["--boot-entry", "boot_entry", "chooses from a disk's menu, which --firmware reads itself"],
] as const;

function checkKernel({ payload, disks = [] }: VmConfig): void {
  if (payload.firmware !== undefined) {
    for (const [option, key, why] of forKernels) {
      if (payload[key] === undefined) continue;
      throw new ConfigError(`${option}: ${why}; drop it, or --firmware`, option);
    }
    if (payload.kernel_entry === "auto") return;
    const why = "says who unpacks a kernel, and --firmware is in its place; drop one";
    throw new ConfigError(`--kernel-entry: ${why}`, "--kernel-entry");
  }
  if (payload.kernel !== undefined) {
    if (payload.boot_entry === undefined) return;
    const why = "chooses from a disk's menu, and --kernel is in its place; drop one";
    throw new ConfigError(`--boot-entry: ${why}`, "--boot-entry");
  }
  if (disks.some(({ path, vhost_user }) => path !== undefined && !vhost_user)) return;
  const give = "give one with --kernel PATH, or a disk that has one";
  throw new ConfigError(`--kernel: no kernel to boot; ${give}`, "--kernel");
}
