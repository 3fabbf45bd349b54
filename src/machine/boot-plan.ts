/** What a configuration says of loading; which files, is chosen anew for each boot. */
import type { KernelEntry } from "../firmware/boot-state.ts";
import { hasOption } from "../firmware/cmdline.ts";
import type { BootConfig } from "./config/vm.ts";
import type { KernelFiles } from "./disk-boot/kernel-files.ts";
import type { GuestMemory } from "./guest-memory.ts";
import type { InputFile } from "./input-file.ts";
import type { RamView } from "./ram-view.ts";
import { possibleCpus } from "./topology.ts";

/** What is loaded, and what it is told of its machine. */
export interface BootPlan {
  readonly kernel: InputFile;
  readonly initramfs: InputFile | undefined;
  readonly cmdline: string;
  /** `kernel` is a firmware. */
  readonly firmware?: boolean;
  /** The image whose own kernel it is. */
  readonly image?: string | undefined;
  readonly entry: KernelEntry;
  readonly memory: RamView;
  /** APIC ids, those present at boot first. */
  readonly cpus: readonly { readonly apicId: number; readonly enabled: boolean }[];
  readonly serial: boolean;
  readonly watchdog?: boolean;
  /** Devices on virtio-mmio. */
  readonly virtioMmio?: readonly { readonly address: number; readonly gsi: number }[];
  /** Of it, what the SMBIOS tables say. */
  readonly platform?: BootConfig["platform"];
}

/** Without the files. Its memory is what main reaches it by. */
export type LastingPlan = Omit<BootPlan, keyof KernelFiles | "memory"> & {
  readonly memory: GuestMemory;
};

export const planOf = (
  { payload, cpus, serial, watchdog, platform }: BootConfig,
  memory: GuestMemory,
  virtioMmio: BootPlan["virtioMmio"] = [],
): LastingPlan => ({
  entry: payload.kernel_entry,
  memory,
  cpus: possibleCpus(cpus),
  serial: serial.mode !== "Off",
  watchdog,
  virtioMmio,
  platform,
});

/** With the files that are booted this time. */
export function planFor(plan: LastingPlan, files: KernelFiles): BootPlan {
  const { kernel, initramfs, cmdline, firmware = false, choice } = files;
  return { ...plan, kernel, initramfs, cmdline, firmware, image: choice?.disk };
}

/** Whether the guest finds ACPI tables. A firmware's command line is for the kernel that it finds: it needs them. */
export const hasAcpi = ({ firmware = false, cmdline }: BootPlan): boolean =>
  firmware || !hasOption(cmdline, "acpi=off");
