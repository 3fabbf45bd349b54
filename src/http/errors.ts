/** Errors as answers: a status, and a JSON array of messages, outermost first, or a problem document (RFC 9457). */
import { ConfigError, UsageError } from "../exit-codes.ts";
import { KvmError } from "../machine/kvm-host.ts";
import { type Refusal, VmmError } from "../machine/vmm/errors.ts";
import { asciiJson } from "./json.ts";

/** A request that cannot be carried out as it stands. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  constructor(
    readonly status: number,
    message: string,
    readonly headers: Readonly<Record<string, string>> = {},
    /** The field of the body that is wrong. */
    readonly option?: string,
  ) {
    super(message);
  }
}

const ofRefusal: Readonly<Record<Refusal, number>> = {
  absent: 404,
  state: 409,
  unbuilt: 501,
  timeout: 408,
  missed: 409,
};

const titles: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  409: "Conflict",
  413: "Content Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  503: "Service Unavailable",
};

/** 500 is for faults of our own alone. */
export function statusOf(error: unknown): number {
  if (error instanceof ApiError) return error.status;
  if (error instanceof VmmError) return ofRefusal[error.refusal];
  if (error instanceof ConfigError || error instanceof UsageError) return 400;
  return error instanceof KvmError ? 503 : 500;
}

const messageLength = 1000;

/** A message quotes what came, which may be of any length. */
export const clipped = (text: string): string =>
  text.length > messageLength ? `${text.slice(0, messageLength)}…` : text;

/** The messages of an error and of what caused it. */
function messagesOf(error: unknown): string[] {
  const messages: string[] = [];
  for (let one: unknown = error; one instanceof Error && messages.length < 8; one = one.cause) {
    messages.push(clipped(one.message.replace(/\s+/g, " ")));
  }
  return messages.length > 0 ? messages : [String(error)];
}

/** `outer` says what was asked for; undefined where that is not known. */
export function errorResponse(error: unknown, outer: string | undefined, accept: string): Response {
  const status = statusOf(error);
  const messages = messagesOf(error);
  const headers: Record<string, string> = error instanceof ApiError ? { ...error.headers } : {};
  if (!accept.includes("application/problem+json")) {
    headers["content-type"] = "application/json";
    const all = outer === undefined ? messages : [outer, ...messages];
    return new Response(asciiJson(all), { status, headers });
  }
  headers["content-type"] = "application/problem+json";
  const option = (error as { option?: string }).option;
  const problem = {
    ...{ type: "about:blank", title: titles[status] ?? "Error", status },
    detail: messages.join(": "),
    ...(option === undefined ? {} : { option }),
  };
  return new Response(asciiJson(problem), { status, headers });
}
