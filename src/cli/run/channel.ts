/**
 * The run's four ports on the machine's second console device: one carries lines between chv and the runner in the
 * guest, the others are the command's standard input, output and error. Their bytes move on the machine's own thread,
 * between guest memory and this process's descriptors; none of them comes through here.
 */
import { fstatSync } from "node:fs";
import { close, Open, open, statusFlags } from "../../ffi/file.ts";
import { ownNonBlocking } from "../../ffi/terminal.ts";
import { socketPair } from "../../ffi/unix-socket.ts";
import type { VmConfig } from "../../machine/config/vm.ts";

type Port = NonNullable<VmConfig["ports"]>[number];

const prefix = "org.chv.";
export const portNames = ["run", "stdin", "stdout", "stderr"].map((name) => prefix + name);
/** Descriptors that the command's bytes come from and go to. */
export interface Streams {
  readonly stdin: number;
  readonly stdout: number;
  readonly stderr: number;
}

/** More without a line's end is no runner's. */
const lineMost = 64 * 1024;

export class Channel {
  readonly ports: Port[];
  /** Bytes of the runner's lines since the start, for `write_bytes` of the device. */
  received = 0;
  #socket: Bun.Socket | undefined;
  readonly #ours: number;
  readonly #fds: number[] = [];
  #line = "";
  #unsent = new Uint8Array(0);
  readonly #decoder = new TextDecoder();

  /** Takes descriptors of its own as they are; nothing is read or written before the command starts. */
  constructor(
    readonly heard: (line: string) => void,
    { stdin, stdout, stderr }: Streams = { stdin: 0, stdout: 1, stderr: 2 },
  ) {
    const [ours, theirs] = socketPair();
    this.#ours = ours;
    this.#fds.push(theirs);
    const [input, output, error] = [
      this.#own(stdin, Open.readOnly),
      this.#own(stdout, Open.writeOnly),
      this.#own(stderr, Open.writeOnly),
    ];
    const fds: Port["fds"][] = [
      { in: theirs, out: theirs },
      { in: input },
      { out: output },
      { out: error },
    ];
    this.ports = portNames.map((name, i) => ({
      ...{ name, console: false, mode: "Null" as const, fds: fds[i] },
    }));
  }

  #own(fd: number, access: number): number {
    const there = statusFlags(fd) >= 0;
    const own = there
      ? ownNonBlocking(fd, access, fstatSync(fd).isFile())
      : open("/dev/null", access);
    this.#fds.push(own);
    return own;
  }

  async open(): Promise<void> {
    this.#socket = await Bun.connect({
      fd: this.#ours,
      socket: {
        data: (_: unknown, bytes: Uint8Array) => this.#take(bytes),
        drain: () => this.#send(),
        error: () => {},
        close: () => {},
      },
    } as never);
  }

  /** The guest starts over: what it had begun to say is no line. */
  beginLife(): void {
    this.#line = "";
  }

  #take(bytes: Uint8Array): void {
    this.received += bytes.length;
    const pieces = (this.#line + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#line = pieces.pop()!.slice(-lineMost);
    for (const piece of pieces) this.heard(piece);
  }

  say(line: string): void {
    this.#unsent = Buffer.concat([this.#unsent, Buffer.from(`${line}\n`)]);
    this.#send();
  }

  #send(): void {
    if (this.#unsent.length === 0) return;
    const count = Math.max(0, this.#socket?.write(this.#unsent) ?? 0);
    this.#unsent = this.#unsent.subarray(count);
  }

  close(): void {
    this.#socket?.end();
    for (const fd of this.#fds.splice(0)) close(fd);
  }
}
