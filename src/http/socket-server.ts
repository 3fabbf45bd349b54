/**
 * The API's socket, as the main thread has it: whole requests come in as `Request`s, a handler's `Response`s go out.
 * The clients themselves are another thread's.
 */
import { createEventfd, signalEventfd } from "../ffi/eventfd.ts";
import { close } from "../ffi/file.ts";
import { log } from "../log.ts";
import { takeSpareApiThread } from "../machine/spare-thread.ts";
import { apiWorkerUrl } from "../workers.ts";
import { ApiError, errorResponse } from "./errors.ts";
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

/** Why waits end when the server does. */
export const ending = "the VMM ends";

export class SocketServer {
  readonly #worker: Worker;
  readonly #wakeFd = createEventfd();
  readonly #port: MessagePort;
  readonly #pending = new Map<number, AbortController>();
  #ending = false;
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

  /** Ends waits and streams, answers what is asked already, lets everybody go, and ends the thread. */
  async close(): Promise<void> {
    this.#ending = true;
    for (const one of this.#pending.values()) one.abort(ending);
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
        this.#pending.get(event.connection)?.abort("the client has gone");
        break;
      case "request":
        void this.#answer(event.connection, event.request, new Descriptors(event.fds));
    }
  }

  async #answer(connection: number, asked: HttpRequest, fds: Descriptors): Promise<void> {
    const gone = new AbortController();
    this.#pending.set(connection, gone);
    if (this.#ending) gone.abort(ending);
    try {
      const request = toRequest(asked, gone.signal);
      const response = request ? await this.handler(request, fds) : malformed(asked);
      if (response.headers.has(streamMark)) {
        await this.#stream(connection, response, gone.signal);
      } else await this.#whole(connection, response);
    } catch (error) {
      // errors of operations are the handler's: this one is the server's, and costs its client alone
      log.error(`${asked.method} ${asked.target}: ${(error as Error).stack}`);
      this.#say({ kind: "broken", connection });
    } finally {
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
    const reader = (response.body as ReadableStream<Uint8Array> | null)?.getReader();
    gone.addEventListener("abort", () => void reader?.cancel());
    while (reader) {
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

function malformed({ headers }: HttpRequest): Response {
  const accept = headers.find(([name]) => name === "accept")?.[1] ?? "";
  const error = new ApiError(400, "The method or the target is none of this API's");
  return errorResponse(error, undefined, accept);
}

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
