/**
 * The API's socket, as the main thread has it: whole requests come in as `Request`s, a handler's `Response`s go out.
 * The clients themselves are another thread's.
 */
import { createEventfd, signalEventfd } from "../ffi/eventfd.ts";
import { close } from "../ffi/file.ts";
import { takeSpareApiThread } from "../machine/spare-thread.ts";
import { apiWorkerUrl } from "../workers.ts";
import type { HttpRequest } from "./server/parser.ts";
import type { Word } from "./server/server.ts";

export interface SocketStart {
  readonly listenFd: number;
  readonly wakeFd: number;
  readonly port: MessagePort;
}

export type SocketEvent =
  | { readonly kind: "ready" }
  | {
      readonly kind: "request";
      readonly connection: number;
      readonly request: HttpRequest;
      readonly fds: readonly number[];
    }
  | { readonly kind: "gone"; readonly connection: number }
  | { readonly kind: "closed" };

/** Descriptors that came with a request. Those that nobody takes are closed when it is answered. */
export class Descriptors {
  #fds: readonly number[];

  constructor(fds: readonly number[]) {
    this.#fds = fds;
  }

  get count(): number {
    return this.#fds.length;
  }

  /** Which they are; they stay whose they were. */
  get numbers(): readonly number[] {
    return this.#fds;
  }

  /** They are the caller's now. */
  take(): readonly number[] {
    const fds = this.#fds;
    this.#fds = [];
    return fds;
  }

  close(): void {
    for (const fd of this.take()) close(fd);
  }
}

/** Answers a request; its signal is aborted when the client goes. Errors are the handler's to answer. */
export type Handler = (request: Request, fds: Descriptors) => Promise<Response> | Response;

/** A response with this header is a stream: its body goes out as it comes. */
export const streamMark = "x-chv-stream";

export class SocketServer {
  readonly #worker: Worker;
  readonly #wakeFd = createEventfd();
  readonly #port: MessagePort;
  readonly #pending = new Map<number, AbortController>();
  readonly #streams = new Set<AbortController>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<void>();

  /** `listenFd` stays the caller's. `onDeath` is told why when the thread ends on an error. */
  constructor(
    listenFd: number,
    readonly handler: Handler,
    onDeath: (why: string) => void,
  ) {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    this.#worker = takeSpareApiThread() ?? new Worker(apiWorkerUrl, { name: "api" });
    this.#worker.onerror = ({ message }) => onDeath(message);
    this.#worker.onmessage = ({ data }) => this.#hear(data as SocketEvent);
    const start: SocketStart = { listenFd, wakeFd: this.#wakeFd, port: port2 };
    this.#worker.postMessage(start, [port2]);
  }

  /** Resolves when a client would be answered. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Answers what is asked already, lets everybody go, and ends the thread. */
  async close(): Promise<void> {
    for (const stream of this.#streams) stream.abort();
    this.#say({ kind: "close" });
    await this.#closed.promise;
    await this.#worker.terminate();
    this.#port.close();
    close(this.#wakeFd);
  }

  #hear(event: SocketEvent): void {
    switch (event.kind) {
      case "ready":
        this.#ready.resolve();
        break;
      case "closed":
        this.#closed.resolve();
        break;
      case "gone":
        this.#pending.get(event.connection)?.abort();
        break;
      case "request":
        void this.#answer(event.connection, event.request, new Descriptors(event.fds));
    }
  }

  async #answer(connection: number, asked: HttpRequest, fds: Descriptors): Promise<void> {
    const gone = new AbortController();
    this.#pending.set(connection, gone);
    try {
      const request = toRequest(asked, gone.signal);
      const response = request ? await this.handler(request, fds) : malformed();
      if (response.headers.has(streamMark)) {
        this.#streams.add(gone);
        await this.#stream(connection, response, gone.signal);
      } else await this.#whole(connection, response);
    } finally {
      this.#streams.delete(gone);
      fds.close();
      this.#pending.delete(connection);
    }
  }

  async #whole(connection: number, response: Response): Promise<void> {
    const body = new Uint8Array(await response.arrayBuffer());
    const headers = headersOf(response);
    this.#say({ kind: "answer", connection, response: { status: response.status, headers, body } });
  }

  async #stream(connection: number, response: Response, gone: AbortSignal): Promise<void> {
    this.#say({
      ...{ kind: "stream", connection, status: response.status, headers: headersOf(response) },
    });
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    gone.addEventListener("abort", () => void reader.cancel());
    for (;;) {
      const { done, value } = await reader.read();
      if (done || gone.aborted) break;
      this.#say({ kind: "piece", connection, bytes: value });
    }
    this.#say({ kind: "end", connection });
  }

  #say(word: Word): void {
    this.#port.postMessage(word);
    signalEventfd(this.#wakeFd);
  }
}

function headersOf(response: Response): [string, string][] {
  return [...response.headers].filter(([name]) => name !== streamMark && name !== "content-length");
}

const malformed = () => Response.json(["The request's target is no path"], { status: 400 });

/** Undefined when there can be no such request. */
function toRequest(asked: HttpRequest, signal: AbortSignal): Request | undefined {
  const { method, target, headers, body } = asked;
  try {
    const url = target.startsWith("/") ? `http://localhost${target}` : target;
    const init: RequestInit = { method, headers: [...headers].map((pair) => [...pair]), signal };
    if (body.length > 0 && method !== "GET" && method !== "HEAD")
      init.body = body as Uint8Array<ArrayBuffer>;
    return new Request(url, init);
  } catch {
    return undefined;
  }
}
