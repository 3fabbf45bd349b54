/**
 * The kinds of machine events: what the machine has to tell beside its registers. Each is a fixed-size record in a
 * shared ring (`src/bus/event-ring.ts`), which the main thread turns into log lines, API events and verdicts.
 */
export const EventKind = {
  /** A thread has something for the log: a = level (see `LogLevel`), text. */
  log: 1,
  /** The guest asked for a reset: a = who (see `ResetSource`). */
  reset: 2,
  /** The guest asked to be powered off. */
  poweroff: 3,
  /** A byte was written to port 0x80: a = the code. */
  debugCode: 4,
  /** A thread of the machine ended on an error: text says which and why. */
  threadFailed: 5,
  /** A vCPU entered the guest for the first time: a = its index. */
  firstEntry: 6,
  /** KVM gave an exit that the VMM cannot serve: a = exit reason, b = RIP; text holds the registers. */
  badExit: 7,
  /** A terminal user typed the escape key and asked to quit. */
  quit: 8,
  /** Guest output was lost: a = which console; text says why. Once for each cause. */
  outputLost: 9,
  /** The first exit from the text of a Linux kernel: it has been entered. */
  kernelEntered: 10,
  /** The machine's threads have ended and everything is freed: no event follows. */
  stopped: 11,
  /** A share of a device has its first chore: a = the share, text = the device's id. The machine starts the thread. */
  choresWanted: 12,
  /** The guest's kernel has panicked: a = what it told (see `PvpanicEvent`). */
  guestPanic: 13,
  /** A device does not work any more, or what is behind it does not: text = its id, a NUL, and why. */
  deviceFailed: 14,
} as const;

/** Who asked for a reset. */
export const ResetSource = { i8042: 1, acpi: 2, tripleFault: 3, watchdog: 4 } as const;

export const LogLevel = { error: 0, warn: 1, info: 2, debug: 3, trace: 4 } as const;

/** What a guest tells by pvpanic (linux/misc/pvpanic.h): it has panicked; it goes on in a crash kernel. */
export const PvpanicEvent = { panicked: 1, crashLoaded: 2 } as const;
