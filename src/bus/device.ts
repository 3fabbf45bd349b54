/**
 * What every device on a bus is, and what the board hands to it. A device sees offsets, never addresses, and unsigned
 * numbers of 1, 2 or 4 bytes; the bus splits wider accesses and holds the device's lock around each call.
 */
export type AccessSize = 1 | 2 | 4;

export interface BusDevice {
  /** The value at `offset` from the start of the mapping, unsigned, `size` bytes. */
  read(offset: number, size: AccessSize): number;
  /** `value` is unsigned and below 2^(8 * size). */
  write(offset: number, size: AccessSize, value: number): void;
}

/** A pin's input. `set(true)` asserts. The same calls serve edge and level pins: the pin's owner knows which it is. */
export interface InterruptLine {
  set(asserted: boolean): void;
}

/**
 * Nanoseconds since an arbitrary start, the same for all threads (CLOCK_MONOTONIC); fits a number for 104 days and
 * more.
 */
export interface Clock {
  monotonicNs(): number;
  /** Milliseconds since 1970-01-01 UTC. */
  wallMs(): number;
}

/** Where a device tells the machine of something that is not a register: a reset, a power-off, a debug-port code. */
export interface EventSink {
  /** `kind` is one of machine events' kinds; `a` and `b` are its numbers. Allocates nothing, never blocks. */
  emit(kind: number, a: number, b: number): void;
}

/**
 * Arms one timer of the device from any thread: an I/O worker calls the device back, under its lock, when it is due.
 */
export interface Timer {
  /** At `deadlineNs` on the monotonic clock; 0 disarms. */
  arm(deadlineNs: number): void;
}

/** The reading end of an output: bytes leave the device here. */
export interface ByteSink {
  /** Appends a byte. False when there is no room: the device keeps its transmitter busy and the guest waits. */
  push(byte: number): boolean;
  /** Whether a push would find room now. */
  readonly ready: boolean;
}
