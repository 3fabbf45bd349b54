/** The API in this process, on a socket of its own, and a client that sends and reads raw bytes. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { serveApi } from "../../src/http/api.ts";
import { EventLog } from "../../src/machine/vmm/events.ts";
import { Vmm } from "../../src/machine/vmm/vmm.ts";

export interface Rig extends AsyncDisposable {
  readonly vmm: Vmm;
  readonly path: string;
  /** A new connection. */
  connect(): Promise<Client>;
  /** Ends the server, while its clients are there. */
  close(): Promise<void>;
}

export async function startApi(): Promise<Rig> {
  const folder = mkdtempSync(join(tmpdir(), "chv-http-"));
  const path = join(folder, "api.sock");
  const reactions = { onReboot: "restart", onPoweroff: "keep", onPanic: "keep" } as const;
  const vmm = new Vmm(new EventLog(0, 0), reactions);
  const options = { path, mode: "0600" };
  const api = await serveApi(vmm, options, (why) => {
    throw new Error(why);
  });
  const clients: Client[] = [];
  let closed: Promise<void> | undefined;
  const close = () => {
    closed ??= api.close();
    return closed;
  };
  return {
    vmm,
    path,
    close,
    async connect() {
      const client = await Client.to(path);
      clients.push(client);
      return client;
    },
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.end();
      await vmm.close();
      await close();
      for (const client of clients) await client.closed(); // their descriptors go with the event
      rmSync(folder, { recursive: true });
    },
  };
}

/** An answer as it came: every byte up to the body, and the body. */
export interface Answer {
  readonly head: string;
  readonly status: number;
  readonly body: string;
}

/** A fuse: what takes so long does not come. */
const patienceMs = 300_000;

export class Client {
  #socket: Awaited<ReturnType<typeof Bun.connect>> | undefined;
  #received = "";
  #unsent = Buffer.alloc(0);
  #ended = false;
  #wake: () => void = () => {};

  static async to(path: string): Promise<Client> {
    const client = new Client();
    client.#socket = await Bun.connect({
      unix: path,
      socket: {
        data: (_, bytes) => {
          client.#received += bytes.toString("latin1");
          client.#wake();
        },
        close: () => {
          client.#ended = true;
          client.#wake();
        },
        drain: () => client.#flush(),
        error: () => {},
      },
    });
    return client;
  }

  send(text: string): void {
    this.#unsent = Buffer.concat([this.#unsent, Buffer.from(text)]);
    this.#flush();
  }

  #flush(): void {
    const count = this.#socket!.write(this.#unsent);
    this.#unsent = this.#unsent.subarray(Math.max(0, count));
    this.#socket!.flush();
  }

  /** Whether it takes what comes. */
  listen(on: boolean): void {
    if (on) this.#socket?.resume();
    else this.#socket?.pause();
  }

  end(): void {
    this.#socket?.end();
  }

  /** Everything that has come and was not read, once `enough` of it is there or the server has ended. */
  async #until(enough: (text: string) => boolean): Promise<string> {
    const deadline = Date.now() + patienceMs;
    while (!enough(this.#received) && !this.#ended) {
      if (Date.now() > deadline) throw new Error(`no answer but: ${this.#received}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, 1000);
      });
    }
    return this.#received;
  }

  /** One answer, framed by Content-Length as its head says. */
  async answer(): Promise<Answer> {
    await this.#until((text) => text.includes("\r\n\r\n"));
    const end = this.#received.indexOf("\r\n\r\n") + 4;
    if (end < 4) throw new Error(`the server ended after: ${this.#received}`);
    const head = this.#received.slice(0, end);
    const length = Number(/\r\nContent-Length: (\d+)\r\n/.exec(head)?.[1] ?? 0);
    await this.#until((text) => text.length >= end + length);
    const body = this.#received.slice(end, end + length);
    this.#received = this.#received.slice(end + length);
    return { head, status: Number(head.slice(9, 12)), body };
  }

  /** Sends a request and reads its answer. */
  ask(method: string, operation: string, body?: unknown): Promise<Answer> {
    const text = body === undefined ? "" : typeof body === "string" ? body : JSON.stringify(body);
    const length = Buffer.byteLength(text);
    this.send(
      `${method} /api/v1/${operation} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${length}\r\n\r\n${text}`,
    );
    return this.answer();
  }

  /** What has come once it holds so many heads, the last with its body. */
  closedBody(heads: number): Promise<string> {
    return this.#until((text) => text.split("\r\n\r\n").length > heads && text.endsWith("}"));
  }

  /** Resolves when the server has ended the connection; what came before. */
  async closed(): Promise<string> {
    await this.#until(() => false);
    return this.#received;
  }
}
