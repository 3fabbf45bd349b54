/**
 * The machine's events: fixed-size records in a shared ring. Any thread writes, under a lock held for a copy; the main
 * thread reads. A writer never waits for the reader: when the ring is full the record is counted as lost.
 */
import { monotonicNs } from "../ffi/clock.ts";
import { addr, bytes, f64, struct, u16, u32 } from "../ffi/struct.ts";
import { callSite } from "./call-site.ts";
import type { EventSink } from "./device.ts";
import { EventKind } from "./events.ts";
import { Lock } from "./lock.ts";

/** Room for an exit's whole report, see `describeBadExit`. */
export const eventTextBytes = 600;
export const EventRecord = struct("event-record", 632, {
  kind: u32,
  source: u16,
  textLength: u16,
  timeNs: addr,
  a: f64,
  b: f64,
  text: bytes(eventTextBytes),
});
const capacity = 1024;
/** The last records are kept for what decides the machine's fate: chatter finds the ring full before. */
const reserved = 64;
const chatter: readonly number[] = [
  EventKind.log,
  EventKind.debugCode,
  EventKind.outputLost,
  EventKind.deviceFailed,
];
const headerBytes = 64;
const [lockIndex, writtenIndex, readIndex, lostIndex] = [0, 1, 2, 3];

/** One event, as the reader gets it. `timeNs` is on the monotonic clock. */
export interface MachineEvent {
  readonly kind: number;
  /** Number of the thread that told it, see `threadName`. */
  readonly source: number;
  readonly timeNs: number;
  readonly a: number;
  readonly b: number;
  readonly text: string;
  /** Of a line for the log: where in the source it was written, "src/machine/x.ts:12:1". */
  readonly place?: string;
}

export class EventRing implements EventSink {
  static readonly byteLength = headerBytes + capacity * EventRecord.size;
  readonly #header: Int32Array<SharedArrayBuffer>;
  readonly #lock: Lock;
  readonly #record: InstanceType<typeof EventRecord>;

  constructor(
    readonly buffer: SharedArrayBuffer,
    readonly source: number,
  ) {
    this.#header = new Int32Array(buffer, 0, headerBytes / 4);
    this.#lock = new Lock(this.#header, lockIndex);
    this.#record = new EventRecord(buffer, headerBytes);
  }

  /** Tells the main thread. Text is cut to 600 bytes of UTF-8. Allocates only for text. */
  emit(kind: number, a: number, b: number, text = ""): void {
    const timeNs = monotonicNs();
    this.#lock.acquire();
    try {
      const written = Atomics.load(this.#header, writtenIndex);
      const room = chatter.includes(kind) ? capacity - reserved : capacity;
      if (((written - Atomics.load(this.#header, readIndex)) | 0) >= room) {
        Atomics.add(this.#header, lostIndex, 1);
        return;
      }
      const record = this.#record;
      record.at = headerBytes + ((written >>> 0) % capacity) * EventRecord.size;
      record.kind = kind;
      record.source = this.source;
      record.timeNs = timeNs;
      record.a = a;
      record.b = b;
      record.textLength = text === "" ? 0 : copyText(text, record.text);
      Atomics.store(this.#header, writtenIndex, (written + 1) | 0);
    } finally {
      this.#lock.release();
    }
    Atomics.notify(this.#header, writtenIndex);
  }

  /** A line for the log of a thread that does not write it. Its place is of the frame `above` the caller of this. */
  log(level: number, text: string, above = 0): void {
    const { file, line } = callSite(new Error().stack ?? "", 2 + above);
    const place = `${file}:${line}:1`; // as a frame of a stack has it
    const most = eventTextBytes - encoder.encode(place).length;
    const whole = encoder.encode(text);
    const cut = decoder.decode(whole.subarray(0, wholeCharacters(whole, most)));
    this.emit(EventKind.log, level, eventTextBytes - most, cut + place);
  }

  /** The next event; undefined when there is none now. For the main thread alone. */
  take(): MachineEvent | undefined {
    const read = Atomics.load(this.#header, readIndex);
    if (Atomics.load(this.#header, writtenIndex) === read) return undefined;
    const record = this.#record;
    record.at = headerBytes + ((read >>> 0) % capacity) * EventRecord.size;
    const { kind, source, timeNs, a, b, textLength } = record;
    const ends = kind === EventKind.log ? textLength - b : textLength; // its place is behind it
    const text = textLength === 0 ? "" : decoder.decode(record.text.slice(0, ends));
    const place = ends === textLength ? "" : decoder.decode(record.text.slice(ends, textLength));
    Atomics.store(this.#header, readIndex, (read + 1) | 0);
    const event = { kind, source, timeNs, a, b, text };
    return place === "" ? event : { ...event, b: 0, place };
  }

  /** How many events found no room since the last call. */
  takeLost(): number {
    return Atomics.exchange(this.#header, lostIndex, 0);
  }

  /** Resolves when there is an event to take. */
  async arrival(): Promise<void> {
    const written = Atomics.load(this.#header, writtenIndex);
    if (written !== Atomics.load(this.#header, readIndex)) return;
    await Atomics.waitAsync(this.#header, writtenIndex, written).value;
  }
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function copyText(text: string, into: Uint8Array): number {
  // encodeInto refuses shared memory, so the text goes by way of a copy
  const encoded = encoder.encode(text);
  const length = wholeCharacters(encoded, eventTextBytes);
  into.set(encoded.subarray(0, length));
  return length;
}

/** How many of the bytes of UTF-8, at most so many, are whole characters. */
function wholeCharacters(encoded: Uint8Array, most: number): number {
  let length = Math.min(encoded.length, most);
  if (length < encoded.length) while ((encoded[length]! & 0xc0) === 0x80) length--;
  return length;
}
