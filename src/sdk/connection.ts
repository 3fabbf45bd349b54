/** The socket between a script and its chv: lines of JSON, both ways (src/cli/run/protocol.ts). */
import type { Duplex } from "node:stream";
import type { Request, Told } from "../cli/run/protocol.ts";

export class Connection {
  #line = "";
  readonly #decoder = new TextDecoder();

  constructor(
    readonly socket: Duplex,
    readonly told: (told: Told) => void,
  ) {
    socket.on("data", (bytes: Uint8Array) => this.#take(bytes));
    socket.on("error", () => {}); // the process's end says more
  }

  #take(bytes: Uint8Array): void {
    const pieces = (this.#line + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#line = pieces.pop()!;
    for (const piece of pieces) this.told(JSON.parse(piece) as Told);
  }

  say(request: Request): void {
    if (this.socket.writable) this.socket.write(`${JSON.stringify(request)}\n`);
  }

  close(): void {
    this.socket.destroy();
  }
}
