/**
 * What happened in this process, in order: the API's `events`, `--event-monitor` and everybody who waits for something
 * read it here. `historyMax` events are kept, so that who comes late misses nothing of an ordinary run; beyond that the
 * oldest of those go that a guest can make in any number, before what a wait may be for.
 */

/** One event. Times: monotonic since the start of the process, and wall clock in ms since 1970. */
export interface VmmEvent {
  /** 1, 2, 3, …: a gap tells a reader that it came too late. */
  readonly sequence: number;
  readonly timestamp: { readonly secs: number; readonly nanos: number };
  readonly wall_ms: number;
  /** Who: "vmm", "vm", "guest" or a device's id. */
  readonly source: string;
  readonly event: string;
  readonly properties: Readonly<Record<string, unknown>> | null;
}

export type EventReader = (event: VmmEvent) => void;

export const historyMax = 4096;

/** The VMM's, the machine's and the guest's own; any other source is a device. */
const sources = ["vmm", "vm", "guest"];
const isChatter = ({ source, event }: VmmEvent): boolean =>
  event === "debug-code" || event === "output-lost" || !sources.includes(source);

export class EventLog {
  readonly #history: VmmEvent[] = [];
  readonly #readers = new Set<EventReader>();
  #last = 0;

  /** `startNs`: when the process started, on the monotonic clock; `wallMs`: the wall clock's reading of that moment. */
  constructor(
    readonly startNs: number,
    readonly wallMs: number,
  ) {}

  /** Tells everybody; `timeNs` is when it happened, on the monotonic clock. */
  tell(source: string, event: string, timeNs: number, properties?: object): void {
    const ns = Math.max(0, timeNs - this.startNs);
    const told: VmmEvent = {
      sequence: ++this.#last,
      timestamp: { secs: Math.floor(ns / 1e9), nanos: Math.floor(ns % 1e9) },
      wall_ms: Math.round(this.wallMs + ns / 1e6),
      source,
      event,
      properties: (properties as VmmEvent["properties"]) ?? null,
    };
    this.#history.push(told);
    if (this.#history.length > historyMax) this.#forget();
    for (const reader of [...this.#readers]) reader(told);
  }

  #forget(): void {
    const index = this.#history.findIndex(isChatter);
    this.#history.splice(Math.max(index, 0), 1);
  }

  /** Calls `reader` for each event that is kept and then for each that comes, until the returned function is called. */
  follow(reader: EventReader): () => void {
    for (const event of [...this.#history]) reader(event);
    return this.next(reader);
  }

  /** The same, from now on. */
  next(reader: EventReader): () => void {
    this.#readers.add(reader);
    return () => this.#readers.delete(reader);
  }

  /** The events that are kept, the oldest first. */
  get history(): readonly VmmEvent[] {
    return this.#history;
  }
}
