/** What the ACPI tables say of the watchdog: the access that each action is. */
import { WatchdogReg, watchdogCounts, watchdogPeriodMs } from "../devices/legacy/watchdog.ts";
import type { AcpiWatchdog } from "../firmware/acpi/platform.ts";

/** With its first register at I/O port `base`. */
export function describeWatchdog(base: number): AcpiWatchdog {
  const count = { port: base + WatchdogReg.count, size: 4, value: 0, mask: 0xffff_ffff } as const;
  const flag = (register: keyof typeof WatchdogReg, access: "read" | "write", value: number) => ({
    ...{ access, port: base + WatchdogReg[register], size: 1 as const, value, mask: 1 },
  });
  return {
    periodMs: watchdogPeriodMs,
    leastCount: watchdogCounts.least,
    mostCount: watchdogCounts.most,
    actions: {
      RESET: flag("restart", "write", 1),
      GET_CURRENT_COUNTDOWN: { ...count, access: "read count", port: base + WatchdogReg.left },
      GET_COUNTDOWN: { ...count, access: "read count" },
      SET_COUNTDOWN: { ...count, access: "write count" },
      GET_RUNNING_STATE: flag("running", "read", 1),
      SET_RUNNING_STATE: flag("running", "write", 1),
      GET_STOPPED_STATE: flag("running", "read", 0),
      SET_STOPPED_STATE: flag("running", "write", 0),
      GET_STATUS: flag("status", "read", 1),
      SET_STATUS: flag("status", "write", 0),
    },
  };
}
