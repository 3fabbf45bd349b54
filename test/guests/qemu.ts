/**
 * Runs guests with tests on QEMU, another program than chv with devices of its own: what passes there
 * is right about the hardware, so what fails on chv alone is chv's fault.
 */
import { buildGuest } from "./build.ts";
import { guestTimeoutMs } from "./harness.ts";
import { type Ended, Follower } from "./process.ts";

/**
 * QEMU's machines: `emulated` interprets the guest and needs no KVM; `kvm` is for what KVM
 * provides. Both are microvm, whose devices lie where chv's do; `q35` has a PM timer.
 */
const machines = {
  emulated: "-M microvm,ioapic2=off,rtc=on -accel tcg -cpu max",
  kvm: "-M microvm,ioapic2=off,rtc=on -enable-kvm -cpu max,-arch-capabilities",
  q35: "-M q35 -accel tcg -cpu max -net none",
  /** With virtio-mmio devices that the command line announces, of version 2. */
  mmio: "-M microvm,ioapic2=off,acpi=off -global virtio-mmio.force-legacy=false -accel tcg -cpu max",
} as const;

export interface QemuOptions {
  readonly cpus?: number;
  readonly cmdline?: string;
  /** The suite if none is named. */
  readonly guest?: string;
  /** More arguments for QEMU. */
  readonly args?: readonly string[];
}

/**
 * Runs tests of a guest, `names` separated by commas. The exit status is isa-debug-exit's,
 * 1.
 */
export async function runSuiteOnQemu(
  machine: keyof typeof machines,
  names: string,
  { cpus = 1, cmdline = "", guest = "suite", args = [] }: QemuOptions = {},
): Promise<Ended> {
  const command = ["qemu-system-x86_64", ...machines[machine].split(" ")];
  command.push("-nographic", "-no-reboot", "-m", "64", "-smp", `${cpus}`);
  command.push("-device", "isa-debug-exit,iobase=0xf4,iosize=1");
  command.push("-kernel", await buildGuest(guest), ...args);
  command.push("-append", `platform=qemu test=${names} ${cmdline}`);
  return new Follower(command, guestTimeoutMs).ended();
}
