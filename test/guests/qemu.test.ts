import { expect, test } from "bun:test";
import { guestTimeoutMs, verdicts } from "./harness.ts";
import { runSuiteOnQemu } from "./qemu.ts";

const passes = (names: string) => [...names.split(",").map((name) => `ok ${name}`), "done"];

/**
 * Not here: serial-loopback-delta (QEMU has no modem status changes in loopback), straddle (an
 * assertion of QEMU 7.2 fails), unhandled-mmio (QEMU reads 0 where nobody answers), i8042 (its
 * controller answers a self test).
 */
const onOneProcessor = [
  "serial-reset,serial-scratch,serial-registers,serial-loopback,serial-fifo,serial-overrun",
  "serial-causes,serial-trigger,serial-transmit-interrupt,ioapic-registers,ioapic-edge",
  "ioapic-edge-masked,ioapic-level,ioapic-level-masked,ioapic-level-withdrawn,ioapic-nmi",
  "lapic-self-ipi,lapic-priority,lapic-timer,lapic-timer-periodic",
  "rtc-time,rtc-ram,rtc-memory,rtc-update,rtc-periodic,rtc-alarm,debug-port,unhandled-port",
  "mmio-widths,port-widths,string-in,string-out,memory-edges",
].join(",");

test(
  "the suite guest finds QEMU's devices right",
  async () => {
    const { stdout } = await runSuiteOnQemu("emulated", onOneProcessor);
    expect(verdicts(stdout)).toEqual(passes(onOneProcessor));
  },
  guestTimeoutMs,
);

test(
  "the suite guest finds QEMU's PM timer right",
  async () => {
    const { stdout } = await runSuiteOnQemu("q35", "pm-timer");
    expect(stdout).toContain("ok pm-timer");
  },
  guestTimeoutMs,
);

test(
  "the suite guest's several processors get along with QEMU's devices",
  async () => {
    const names = "smp-start,smp-scratch,smp-cmos,smp-ioapic,ioapic-destination,ioapic-logical";
    const { stdout } = await runSuiteOnQemu("emulated", names, { cpus: 3, cmdline: "cpus=3" });
    expect(verdicts(stdout)).toEqual(passes(names));
  },
  guestTimeoutMs,
);

test(
  "the suite guest finds what KVM provides to QEMU right",
  async () => {
    const names = "cpuid-hypervisor,kvmclock,smp-start,cpuid-topology,lapic-x2apic";
    const { stdout } = await runSuiteOnQemu("kvm", names, { cpus: 2, cmdline: "cpus=2" });
    expect(verdicts(stdout)).toEqual(passes(names));
  },
  guestTimeoutMs,
);
