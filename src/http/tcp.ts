/**
 * The API on TCP (`--api-listen`): the same application behind Bun's server, with a WebSocket for a console. Whoever
 * reaches it drives the VM: it is for this host alone, or for those who have the token.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { statSync } from "node:fs";
import { ConfigError } from "../exit-codes.ts";
import { readSmallFile } from "../machine/small-file.ts";
import type { Vmm } from "../machine/vmm/vmm.ts";
import { createApi } from "./app.ts";
import { consoleSocket, type SocketData } from "./console-socket.ts";
import { ApiError, errorResponse } from "./errors.ts";
import { limits } from "./server/parser.ts";
import { Descriptors, ending, streamMark } from "./socket-server.ts";

export interface ListenOptions {
  /** `ADDR:PORT`, `[ADDR]:PORT`. */
  readonly apiListen: string;
  readonly apiTokenFile?: string | undefined;
}

export interface TcpApi {
  /** For a port of 0: the one that was chosen. */
  readonly port: number;
  /** Resolves when what was asked is answered, and nobody listens. */
  close(): Promise<void>;
}

const option = "--api-listen";
const consolePath = "/api/v1/vm.console";
/** Requests that are answered at the same time. */
const requestsMax = 64;
/** How long clients may take to read their last answer. */
const partingMs = 1000;
const tokenLengthMin = 16;
const tokenBytesMax = 4096;

/** Throws ConfigError when it cannot listen. */
export function listenApi(vmm: Vmm, { apiListen, apiTokenFile }: ListenOptions): TcpApi {
  const { hostname, port } = parseAddress(apiListen);
  const token = apiTokenFile === undefined ? undefined : readToken(apiTokenFile);
  if (token === undefined && !isLoopback(hostname)) {
    const why = "reached from other hosts, and no token is asked for";
    throw new ConfigError(`${option} ${apiListen}: ${why}; add --api-token-file FILE`, option);
  }
  const answer = createApi(vmm);
  const pending = new Set<AbortController>();
  let current = 0;

  async function serve(request: Request): Promise<Response> {
    const gone = new AbortController();
    request.signal.addEventListener("abort", () => gone.abort("the client has gone"));
    pending.add(gone);
    const fds = new Descriptors([]);
    const response = await answer(new Request(request, { signal: gone.signal }), fds);
    const { status, headers, body } = response;
    const isStream = headers.has(streamMark);
    headers.delete(streamMark);
    if (isStream && body) return new Response(forgotten(body, gone), { status, headers });
    pending.delete(gone);
    return response;
  }

  /** The same stream, which is none of those that are to be ended any more when it has ended. */
  function forgotten(body: ReadableStream<Uint8Array>, gone: AbortController): ReadableStream {
    const reader = body.getReader();
    const forget = () => void pending.delete(gone);
    return new ReadableStream<Uint8Array>({
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          if (!done) return controller.enqueue(value);
          controller.close();
        } catch (error) {
          controller.error(error);
        }
        forget();
      },
      cancel(reason) {
        forget();
        return reader.cancel(reason);
      },
    });
  }

  function refusal(request: Request): ApiError | undefined {
    const { headers } = request;
    if (token !== undefined && !hasToken(headers.get("authorization"), token)) {
      return new ApiError(401, "The token is missing or wrong", { "www-authenticate": "Bearer" });
    }
    // a page of a browser on this host, whose name leads here or that opens a WebSocket
    const host = headers.get("host") ?? "";
    if (token === undefined && !isLoopback(hostOf(host))) {
      return new ApiError(403, `Host ${host} is not this host's loopback address`);
    }
    const origin = headers.get("origin");
    if (origin !== null && origin !== `http://${host}`) {
      return new ApiError(403, `Origin ${origin} is another site`);
    }
    return current > requestsMax ? new ApiError(503, "Too many requests at once") : undefined;
  }

  const sockets = consoleSocket(vmm);
  try {
    const server = Bun.serve<SocketData>({
      ...{ hostname, port, idleTimeout: 0, maxRequestBodySize: limits.body },
      websocket: sockets.handlers,
      async fetch(request, listener) {
        current++;
        try {
          const refused = refusal(request);
          const accept = request.headers.get("accept") ?? "";
          if (refused) return errorResponse(refused, undefined, accept);
          const url = new URL(request.url);
          const upgrades = request.headers.get("upgrade")?.toLowerCase() === "websocket";
          if (!upgrades || url.pathname !== consolePath) return await serve(request);
          return sockets.upgrade(url.searchParams.get("console") ?? undefined, accept, (data) =>
            listener.upgrade(request, { data }),
          );
        } finally {
          current--;
        }
      },
    });
    return {
      port: server.port!,
      async close() {
        for (const one of pending) one.abort(ending);
        await Promise.race([server.stop(), Bun.sleep(partingMs)]);
        await server.stop(true);
      },
    };
  } catch (error) {
    const { code = "" } = error as { code?: string };
    const fix = code === "EADDRINUSE" ? "choose another port" : "choose an address of this host";
    throw new ConfigError(`${option} ${apiListen}: ${code || "cannot listen"}; ${fix}`, option);
  }
}

function parseAddress(text: string): { hostname: string; port: number } {
  const [, inner, plain, digits] =
    /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const [hostname, port] = [inner ?? plain, Number(digits)];
  if (hostname !== undefined && port <= 65_535) return { hostname, port };
  throw new ConfigError(
    `${option} ${text}: no ADDR:PORT, such as 127.0.0.1:8080; give one`,
    option,
  );
}

/** Of a Host header: without the port and the brackets. */
const hostOf = (host: string) => host.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");

const isLoopback = (host: string) =>
  host === "localhost" || host === "::1" || /^127(?:\.\d{1,3}){3}$/.test(host);

/** The digest of the file's one word. Throws ConfigError. */
function readToken(path: string): Buffer {
  const fail = (why: string) =>
    new ConfigError(`--api-token-file ${path}: ${why}`, "--api-token-file");
  let text: string;
  try {
    if ((statSync(path).mode & 0o077) !== 0) throw fail("others may open it; chmod 600 it");
    text = new TextDecoder().decode(readSmallFile(path, tokenBytesMax)).trim();
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw fail(`cannot be read (${(error as { code?: string }).code}); name a file with the token`);
  }
  if (text.length > tokenBytesMax) throw fail("more than 4 KiB; give a smaller one");
  if (!/^[\x21-\x7e]+$/.test(text) || text.length < tokenLengthMin) {
    throw fail(`holds no word of at least ${tokenLengthMin} characters; put one there`);
  }
  return digest(text);
}

const digest = (text: string) => createHash("sha256").update(text).digest();

/** Takes the same time whatever was sent. */
function hasToken(authorization: string | null, token: Buffer): boolean {
  const [, given = ""] = /^bearer +(.+)$/i.exec(authorization ?? "") ?? [];
  return timingSafeEqual(digest(given.trim()), token);
}
