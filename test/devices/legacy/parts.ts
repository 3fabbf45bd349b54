/** What stands around a device in its unit tests: a pin, a console, clocks and an event ring that remember. */
import type { ByteSink, Clock, EventSink, InterruptLine, Timer } from "../../../src/bus/device.ts";
import type { ByteSource } from "../../../src/bus/rings.ts";

/** An interrupt line: its level, and every change of it. */
export class Line implements InterruptLine {
  level = false;
  readonly changes: boolean[] = [];

  set(asserted: boolean): void {
    this.level = asserted;
    this.changes.push(asserted);
  }
}

/** An output with room for `room` bytes. */
export class Sink implements ByteSink {
  text = "";
  constructor(public room = Number.POSITIVE_INFINITY) {}

  get ready(): boolean {
    return this.room > 0;
  }

  push(byte: number): boolean {
    if (this.room === 0) return false;
    this.room--;
    this.text += String.fromCharCode(byte);
    return true;
  }
}

/** An input that holds the bytes of `text`. */
export class Source implements ByteSource {
  constructor(public text = "") {}

  pop(): number {
    if (this.text === "") return -1;
    const byte = this.text.charCodeAt(0);
    this.text = this.text.slice(1);
    return byte;
  }
}

/** Both clocks, moved by hand. */
export class ManualClock implements Clock {
  constructor(
    public wall = Date.UTC(2026, 10, 22, 10, 41, 5),
    public monotonic = 5e9,
  ) {}

  monotonicNs(): number {
    return this.monotonic;
  }

  wallMs(): number {
    return this.wall;
  }

  pass(ms: number): void {
    this.wall += ms;
    this.monotonic += ms * 1e6;
  }
}

/** A timer that says what it is armed for; 0 is disarmed. */
export class ManualTimer implements Timer {
  deadlineNs = 0;

  arm(deadlineNs: number): void {
    this.deadlineNs = deadlineNs;
  }
}

/** Events as `[kind, a]`. */
export class Events implements EventSink {
  readonly seen: [number, number][] = [];

  emit(kind: number, a: number): void {
    this.seen.push([kind, a]);
  }
}
