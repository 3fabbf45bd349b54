/**
 * One machine's configuration, as JSON: what `vm.create` takes and `vm.info` shows, and what the
 * command line makes. Every top-level name is an option, or holds them (`payload`).
 */
import * as v from "valibot";
import { CloudInitConfig } from "./cloud-init.ts";
import {
  BalloonConfig,
  ConsoleConfig,
  DeviceConfig,
  DiskConfig,
  FsConfig,
  NetConfig,
  PlatformConfig,
  PmemConfig,
  PortConfig,
  RngConfig,
  SerialConfig,
  VsockConfig,
} from "./devices.ts";
import { field, onOff } from "./field.ts";
import { CpusConfig, MemoryConfig, PayloadConfig } from "./machine.ts";
import { descriptionOf, type ObjectSchema, spellingOf } from "./shape.ts";

/** Several of one device: an option that takes several values and may be repeated. */
const several = <S extends ObjectSchema>(item: S) => {
  return v.optional(field(v.array(item), descriptionOf(item), spellingOf(item)));
};

export const VmConfigSchema = v.object({
  payload: v.optional(PayloadConfig, {}),
  cpus: v.optional(CpusConfig, {}),
  memory: v.optional(MemoryConfig, {}),
  serial: v.optional(SerialConfig, { mode: "Null" }),
  console: v.optional(ConsoleConfig, { mode: "Tty" }),
  auto_console: v.optional(
    onOff("The console that the command line names last, ttyS0 or hvc0, is on the terminal", {
      jsonOnly: true,
    }),
  ),
  ports: several(PortConfig),
  disks: several(DiskConfig),
  cloud_init: v.optional(CloudInitConfig),
  net: several(NetConfig),
  rng: v.optional(RngConfig, {}),
  fs: several(FsConfig),
  pmem: several(PmemConfig),
  vsock: v.optional(VsockConfig),
  devices: several(DeviceConfig),
  balloon: v.optional(BalloonConfig),
  watchdog: v.optional(onOff("Watchdog device"), false),
  pvpanic: v.optional(onOff("Device that tells of a guest panic"), false),
  platform: v.optional(PlatformConfig),
  iommu: v.optional(onOff("Devices behind an IOMMU", { jsonOnly: true })),
  landlock_enable: v.optional(onOff("Confine the VMM (Landlock)", { jsonOnly: true })),
});

type Parsed = v.InferOutput<typeof VmConfigSchema>;

/** A whole configuration: defaults filled in, `max_vcpus` too. */
export type VmConfig = Parsed & { cpus: { max_vcpus: number } };

/** A configuration that was found good for a boot: it has a kernel, or a disk that may have one. */
export type BootConfig = VmConfig;

/** Fills in what depends on another field, which a schema's default cannot. */
export function complete(parsed: Parsed): VmConfig {
  const { cpus } = parsed;
  return { ...parsed, cpus: { ...cpus, max_vcpus: cpus.max_vcpus ?? cpus.boot_vcpus } };
}
