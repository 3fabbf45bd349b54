/**
 * Answers as bytes. The status line has no reason phrase: clients of this API read all that follows the version as a
 * number. A body is framed by Content-Length; a stream, whose length nobody knows, by chunks.
 */

export interface HttpResponse {
  readonly status: number;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Uint8Array;
}

const encoder = new TextEncoder();

const bodiless = (status: number) => status === 204 || status === 304 || status < 200;

/** Header names as clients of this API look for them. */
const spelled: Readonly<Record<string, string>> = {
  "content-type": "Content-Type",
  "cache-control": "Cache-Control",
  allow: "Allow",
};

function headOf(status: number, headers: HttpResponse["headers"], more: readonly string[]): string {
  const lines = headers.map(([name, value]) => `${spelled[name.toLowerCase()] ?? name}: ${value}`);
  return `HTTP/1.1 ${status} \r\n${[...lines, ...more].map((line) => `${line}\r\n`).join("")}\r\n`;
}

/** A whole answer. A HEAD request gets no body, and is told its length. */
export function wholeResponse(response: HttpResponse, head: boolean, last: boolean): Uint8Array {
  const { status, headers, body } = response;
  const more = last ? ["Connection: close"] : [];
  if (!bodiless(status)) more.unshift(`Content-Length: ${body.length}`);
  const start = encoder.encode(headOf(status, headers, more));
  if (head || bodiless(status)) return start;
  const bytes = new Uint8Array(start.length + body.length);
  bytes.set(start);
  bytes.set(body, start.length);
  return bytes;
}

/** The head of a stream; to an HTTP/1.0 client its end is the connection's. */
export function streamHead(
  status: number,
  headers: HttpResponse["headers"],
  chunked: boolean,
): Uint8Array {
  const more = chunked ? ["Transfer-Encoding: chunked"] : ["Connection: close"];
  return encoder.encode(headOf(status, headers, more));
}

/** A piece of a stream; an empty one would be its end. */
export function streamPiece(bytes: Uint8Array, chunked: boolean): Uint8Array {
  if (!chunked || bytes.length === 0) return bytes;
  const size = encoder.encode(`${bytes.length.toString(16)}\r\n`);
  const piece = new Uint8Array(size.length + bytes.length + 2);
  piece.set(size);
  piece.set(bytes, size.length);
  piece.set([13, 10], size.length + bytes.length);
  return piece;
}

export const streamEnd = encoder.encode("0\r\n\r\n");
export const continueResponse = encoder.encode("HTTP/1.1 100 \r\n\r\n");

/** An error of the server itself, in the API's form: a JSON array of messages. */
export function refusalResponse(status: number, message: string): HttpResponse {
  const headers = [["Content-Type", "application/json"]] as const;
  return { status, headers, body: encoder.encode(JSON.stringify([message])) };
}
