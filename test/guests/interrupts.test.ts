import { describe } from "bun:test";
import { guestTests } from "./harness.ts";

describe("IOAPIC", () => {
  guestTests([
    "ioapic-registers",
    "ioapic-edge",
    "ioapic-edge-masked",
    "ioapic-level",
    "ioapic-level-masked",
    "ioapic-level-withdrawn",
    "ioapic-nmi",
  ]);
});

describe("IOAPIC with several processors", () => {
  guestTests(["ioapic-destination", "ioapic-logical"], { cpus: 4, cmdline: "cpus=4" });
});

describe("local APIC", () => {
  guestTests([
    "lapic-self-ipi",
    "lapic-priority",
    "lapic-timer",
    "lapic-timer-periodic",
    "lapic-tsc-deadline",
    "lapic-x2apic",
  ]);
});
