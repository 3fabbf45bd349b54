/**
 * A run that a program drives (`--control`): commands, one after the other, and the API's operations come by a socket,
 * and what happens goes back by it. The end of that socket is the end of the machine: it does not outlive the program.
 */
import { version } from "../../../package.json";
import { UsageError } from "../../exit-codes.ts";
import { setNonBlocking, statusFlags } from "../../ffi/file.ts";
import { createApi } from "../../http/app.ts";
import { Descriptors, type Handler, streamMark } from "../../http/socket-server.ts";
import type { ConsoleLog } from "../../machine/console/log.ts";
import type { VmmEvent } from "../../machine/vmm/events.ts";
import type { Vmm } from "../../machine/vmm/vmm.ts";
import { Channel, type Streams } from "./channel.ts";
import type { Over, Request, Told } from "./protocol.ts";
import { Series, type SeriesListener } from "./series.ts";

/** As `chv run` waits for its runner. */
const silenceMs = 30_000;
/** More than this is not kept for a program that does not listen: what consoles say is dropped. */
const unsentMost = 4 * 2 ** 20;
/** The program has this long to take the last words. */
const lastWordsMs = 2000;
const lineMost = 16 * 2 ** 20;

type Call = Extract<Request, { readonly call: string }>;

export class Control {
  readonly series: Series;
  readonly channel: Channel;
  #vmm: Vmm | undefined;
  #api: Handler | undefined;
  #socket: Bun.Socket | undefined;
  #open = true;
  readonly #pieces: Uint8Array[] = [];
  #unsent = 0;
  #line: Uint8Array[] = [];
  #lineBytes = 0;
  readonly #calls = new Map<number, AbortController>();
  /** Bytes of each console that nobody was told. */
  readonly #lost = new Map<string, number>();
  readonly #leaves: (() => void)[] = [];
  #silence: ReturnType<typeof setTimeout> | undefined;
  /** A command has not told how much it put out. */
  #unsettled = false;
  #sent = Promise.withResolvers<void>();

  /** `sync`: what commands write is to be on the disks when they end. Throws UsageError. */
  constructor(
    readonly fds: Streams & { readonly fd: number },
    sync: boolean,
    /** The machine is to end: in order, or at once. */
    readonly end: (inOrder: boolean) => void,
  ) {
    for (const [key, fd] of Object.entries(fds)) {
      if (statusFlags(fd) < 0) {
        throw new UsageError(`--control ${key}=${fd}: no such open descriptor`, "--control");
      }
      setNonBlocking(fd);
    }
    this.channel = new Channel((line) => this.#heard(line), fds);
    const series: SeriesListener = {
      ready: () => void this.#ready(),
      started: (id) => this.#tell({ id, started: true }),
      ended: (id, { status, signal = null, output, error }) =>
        this.#tell({ id, ended: status, signal, output, error }),
      lost: (id, lost) => {
        this.#unsettled = true;
        this.#tell({ id, lost });
      },
    };
    this.series = new Series((line) => this.channel.say(line), series, sync);
  }

  /** The machine runs: the program is told, and heard. */
  async begin(vmm: Vmm): Promise<void> {
    this.#vmm = vmm;
    this.#api = createApi(vmm);
    this.#socket = await Bun.connect({
      fd: this.fds.fd,
      socket: {
        data: (_: unknown, bytes: Uint8Array) => this.#take(bytes),
        drain: () => this.#send(),
        error: () => this.#gone(),
        end: () => this.#gone(),
        close: () => this.#gone(),
      },
    } as never);
    await this.channel.open();
    this.#tell({ hello: { version, pid: process.pid } });
    this.#leaves.push(vmm.events.follow((event) => this.#happened(event)));
    for (const log of vmm.consoles.logs) {
      this.#leaves.push(log.follow((bytes) => this.#said(log, bytes)));
    }
  }

  /** The last line; resolves when the program has it, or is gone. */
  async over(over: Over): Promise<void> {
    clearTimeout(this.#silence);
    for (const leave of this.#leaves.splice(0)) leave();
    for (const call of this.#calls.values()) call.abort();
    this.#tell({ over });
    if (this.#open && this.#unsent > 0) {
      await Promise.race([this.#sent.promise, Bun.sleep(lastWordsMs)]);
    }
    this.#socket?.end();
    this.channel.close();
  }

  #gone(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#sent.resolve();
    this.end(false);
  }

  // what is heard of the guest

  #happened(event: VmmEvent): void {
    this.#tell({ event });
    const name = `${event.source}/${event.event}`;
    if (name === "vm/reset") {
      clearTimeout(this.#silence);
      this.channel.beginLife();
      this.series.beginLife(`the guest was reset (${event.properties?.source})`);
    } else if (name === "guest/login" && this.series.silent) {
      clearTimeout(this.#silence);
      this.#silence = setTimeout(() => {
        const why = "the image has no cloud-init, or it is turned off";
        const absent = `no word of the runner 30 s after the login prompt: ${why}`;
        this.#tell({ absent });
      }, silenceMs);
    }
  }

  #heard(line: string): void {
    clearTimeout(this.#silence);
    this.series.heard(line);
  }

  /** After a command that was lost, what it put out has gone before the next may start. */
  async #ready(): Promise<void> {
    if (!this.#unsettled) {
      this.#tell({ ready: true });
      return;
    }
    const outputs = await this.#outputs();
    this.#unsettled = false;
    this.#tell({ ready: true, outputs });
  }

  /** All bytes of commands that went out; the guest puts none out now. */
  async #outputs(): Promise<number> {
    for (let before = -1; ; await Bun.sleep(2)) {
      const all = this.#vmm?.guest?.machine.counters().__ports?.write_bytes ?? 0;
      const outputs = all - this.channel.received;
      if (outputs === before) return Math.max(0, outputs);
      before = outputs;
    }
  }

  #said({ name }: ConsoleLog, bytes: Uint8Array): void {
    if (this.#unsent > unsentMost) {
      this.#lost.set(name, (this.#lost.get(name) ?? 0) + bytes.length);
      return;
    }
    this.#tellLost();
    this.#tell({ console: name, data: Buffer.from(bytes).toString("base64") });
  }

  #tellLost(): void {
    for (const [console, lost] of this.#lost) this.#tell({ console, lost });
    this.#lost.clear();
  }

  // what the program asks for

  #take(bytes: Uint8Array): void {
    let rest = bytes;
    for (;;) {
      const end = rest.indexOf(10);
      this.#line.push(end < 0 ? rest.slice() : rest.subarray(0, end));
      this.#lineBytes += this.#line.at(-1)!.length;
      if (this.#lineBytes > lineMost) this.#gone();
      if (end < 0 || !this.#open) return;
      const line = Buffer.concat(this.#line).toString();
      this.#line = [];
      this.#lineBytes = 0;
      rest = rest.subarray(end + 1);
      const request = parse(line);
      if (request) this.#asked(request);
      else this.#gone();
    }
  }

  #asked(request: Request): void {
    if ("end" in request) this.end(true);
    else if ("call" in request) void this.#call(request);
    else if ("abort" in request) this.#calls.get(request.id)?.abort();
    else if ("run" in request) this.series.ask(request.id, request.run);
    else if ("input" in request) this.series.input(request.id, request.input);
    else if ("signal" in request) this.series.signal(request.id, request.signal);
  }

  async #call({ id, call, method, body }: Call): Promise<void> {
    const gone = new AbortController();
    this.#calls.set(id, gone);
    const text = body === undefined ? {} : { body: JSON.stringify(body) };
    const init = { method, signal: gone.signal, ...text };
    const request = new globalThis.Request(`http://localhost/api/v1/${call}`, init);
    const response = await this.#api!(request, new Descriptors([]));
    if (response.headers.has(streamMark)) {
      gone.abort();
      this.#tell({
        id,
        status: 501,
        body: JSON.stringify([`${call}: streams do not come by here`]),
      });
    } else this.#tell({ id, status: response.status, body: await response.text() });
    this.#calls.delete(id);
  }

  // the way back

  #tell(told: Told): void {
    if (!this.#open || !this.#socket) return;
    const bytes = Buffer.from(`${JSON.stringify(told)}\n`);
    this.#pieces.push(bytes);
    this.#unsent += bytes.length;
    this.#send();
  }

  #send(): void {
    while (this.#open && this.#pieces.length > 0) {
      const piece = this.#pieces[0]!;
      const count = Math.max(0, this.#socket?.write(piece) ?? 0);
      this.#unsent -= count;
      if (count < piece.length) {
        this.#pieces[0] = piece.subarray(count);
        return;
      }
      this.#pieces.shift();
    }
    if (this.#lost.size > 0) this.#tellLost();
    if (this.#unsent === 0) {
      this.#sent.resolve();
      this.#sent = Promise.withResolvers();
    }
  }
}

function parse(line: string): Request | undefined {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
