/** A client of the API on a unix socket, for `chv ctl` and for tests of what users do. */
import { asciiJson } from "./json.ts";

/** The VMM refused: its status and its messages, outermost first. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
  constructor(
    readonly status: number,
    readonly messages: readonly string[],
  ) {
    super(messages.join(": "));
  }
}

/** Nobody answers on the socket. */
export class NobodyError extends Error {
  override readonly name = "NobodyError";
}

export class ApiClient {
  constructor(readonly path: string) {}

  /** Calls an operation; undefined where it answers nothing. Throws RefusedError or NobodyError. */
  async call(method: "get" | "put", operation: string, body?: unknown): Promise<unknown> {
    const response = await this.request(method, operation, body);
    const text = await response.text().catch((error) => this.lost(error));
    return text === "" ? undefined : JSON.parse(text);
  }

  /** The answer as it comes, for a stream. Throws as `call` does. */
  async request(
    method: "get" | "put",
    operation: string,
    body?: unknown,
    accept = "application/json",
  ): Promise<Response> {
    const init: RequestInit & { unix: string; timeout: false } = {
      // a wait or a stream may say nothing for hours: without `timeout` fetch gives up after five minutes
      ...{ method: method.toUpperCase(), unix: this.path, timeout: false, headers: { accept } },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : asciiJson(body) }),
    };
    let response: Response;
    try {
      response = await fetch(`http://localhost/api/v1/${operation}`, init);
    } catch (error) {
      const { code = "" } = error as { code?: string };
      throw new NobodyError(`--api-socket ${this.path}: nobody answers (${code}); start chv there`);
    }
    if (!response.ok) throw new RefusedError(response.status, messagesOf(await response.text()));
    return response;
  }

  /** For an answer that ended before its end: throws NobodyError. */
  lost(error: unknown): never {
    const { code = "no reason" } = error as { code?: string };
    throw new NobodyError(
      `--api-socket ${this.path}: the connection broke (${code}); see whether chv still runs`,
    );
  }
}

function messagesOf(text: string): string[] {
  try {
    const messages: unknown = JSON.parse(text);
    return Array.isArray(messages) ? messages.map(String) : [text];
  } catch {
    return [text];
  }
}
