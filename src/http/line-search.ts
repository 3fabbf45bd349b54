/**
 * Looks for something in the lines of consoles: a few ms at a time, so that a long log, a guest that says much or a
 * pattern that is hard to match hold up nobody else on the main thread.
 */
import { lineBytesMax } from "../machine/console/log.ts";

const sliceMs = 5;
/** What may wait to be looked at, in bytes; of a guest that says more than can be looked at the oldest is left out. */
const unreadMax = 2 ** 21;
const newline = 10;

export class LineSearch {
  readonly #unread: { readonly console: string; readonly bytes: Uint8Array }[] = [];
  #unreadBytes = 0;
  /** How far the first of them has been looked at. */
  #at = 0;
  /** What each console's last line has so far. */
  readonly #begun = new Map<string, { text: string; readonly decoder: TextDecoder }>();
  /** It goes on when others have had their turn. */
  #pausing = false;
  #stopped = false;
  #end: (() => void) | undefined;

  /** `found` is told of each line that matches: also of one that has no end yet, which is how a prompt looks. */
  constructor(
    readonly matches: (line: string) => boolean,
    readonly found: (console: string, line: string) => void,
  ) {}

  /** More of what a console says; it must stay as it is. */
  take(console: string, bytes: Uint8Array): void {
    if (this.#end || this.#stopped) return;
    this.#unread.push({ console, bytes });
    this.#unreadBytes += bytes.length;
    while (this.#unreadBytes > unreadMax && this.#unread.length > 1) this.#next();
    if (!this.#pausing) this.#look();
  }

  /** Nothing more is taken. `end` is called when what was taken has been looked at. */
  end(end: () => void): void {
    this.#end ??= end;
    if (!this.#pausing) this.#end();
  }

  /** Nobody wants to know any more. */
  stop(): void {
    this.#stopped = true;
    this.#unread.length = 0;
  }

  #look(): void {
    const until = performance.now() + sliceMs;
    while (this.#unread.length > 0) {
      this.#lookAtLine();
      if (performance.now() < until) continue;
      this.#pausing = true;
      setImmediate(() => this.#look());
      return;
    }
    this.#pausing = false;
    this.#end?.();
  }

  #next(): void {
    this.#unreadBytes -= this.#unread.shift()!.bytes.length;
    this.#at = 0;
  }

  /** Looks at the next line, or at the beginning of one where there is no more. */
  #lookAtLine(): void {
    const { console, bytes } = this.#unread[0]!;
    const line = this.#begunOf(console);
    const end = bytes.indexOf(newline, this.#at);
    const ends = end >= 0;
    const until = ends ? end : bytes.length;
    const from = Math.max(this.#at, until - 4 * lineBytesMax); // UTF-8: four bytes a character
    const more = line.decoder.decode(bytes.subarray(from, until), { stream: !ends });
    line.text = (line.text + more).slice(-lineBytesMax);
    this.#at = until + 1;
    if (this.#at >= bytes.length) this.#next();
    const text = line.text.replace(/\r+$/, "");
    if (ends) line.text = "";
    if ((ends || text !== "") && this.matches(text)) this.found(console, text);
  }

  #begunOf(console: string): { text: string; readonly decoder: TextDecoder } {
    const begun = this.#begun.get(console) ?? { text: "", decoder: new TextDecoder() };
    this.#begun.set(console, begun);
    return begun;
  }
}
