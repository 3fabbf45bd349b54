/**
 * HTTP/1.1 requests from a stream of bytes, however it was cut (RFC 9112). Bodies are framed by Content-Length or by
 * chunks; what is ambiguous, too long or malformed is refused, and the connection is of no use then.
 */

/** What a client may send at most, in bytes. */
export const limits = { head: 16 * 1024, headers: 64, body: 2 ** 18 } as const;

export interface HttpRequest {
  readonly method: string;
  /** As sent: origin form, or absolute form. */
  readonly target: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Uint8Array;
  /** The connection ends with the answer: HTTP/1.0, or `Connection: close`. */
  readonly last: boolean;
}

/** Why a request is refused, and with what status. */
export class HttpRefusal extends Error {
  override readonly name = "HttpRefusal";
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

interface Head extends Omit<HttpRequest, "body"> {
  /** The body's length in bytes; -1 where it comes in chunks. */
  readonly length: number;
  /** The client waits for a word before it sends the body. */
  readonly expectsContinue: boolean;
}

/** What has come of a body in chunks: the first `total` bytes. */
interface Chunks {
  bytes: Uint8Array;
  total: number;
  /** The last chunk has come; trailers follow. */
  ended: boolean;
}

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const latin1 = new TextDecoder("latin1");

export class RequestParser {
  /** What is kept is a part of an ArrayBuffer that grows by doubling. */
  #buffer = new Uint8Array(0);
  #head: Head | undefined;
  #continueOwed = false;
  #chunks: Chunks | undefined;

  /** More bytes. */
  push(bytes: Uint8Array): void {
    const { buffer, byteOffset, length } = this.#buffer;
    const whole = length + bytes.length;
    let grown = new Uint8Array(buffer, byteOffset);
    if (grown.length < whole) {
      grown = new Uint8Array(whole * 2);
      grown.set(this.#buffer);
    }
    grown.set(bytes, length);
    this.#buffer = grown.subarray(0, whole);
  }

  /** Bytes that are kept; 0 between requests. */
  get pending(): number {
    return this.#buffer.length + (this.#head ? 1 : 0);
  }

  /** Enough is kept for now: a client that sends ahead waits. */
  get full(): boolean {
    return this.#buffer.length > limits.head + limits.body;
  }

  /** True once when the client wants to hear `100 Continue` before it goes on. */
  takeContinue(): boolean {
    const owed = this.#continueOwed;
    this.#continueOwed = false;
    return owed;
  }

  /** The next whole request; undefined while it is not. Throws HttpRefusal. */
  next(): HttpRequest | undefined {
    this.#head ??= this.#takeHead();
    const head = this.#head;
    if (!head) return undefined;
    const body = head.length < 0 ? this.#takeChunks() : this.#take(head.length);
    if (!body) {
      if (head.expectsContinue && this.#buffer.length === 0) this.#oweContinue(head);
      return undefined;
    }
    this.#head = undefined;
    this.#continueOwed = false;
    if (this.#buffer.length === 0) this.#buffer = new Uint8Array(0); // an idle client keeps nothing
    const { method, target, headers, last } = head;
    return { method, target, headers, body, last };
  }

  #oweContinue(head: Head): void {
    this.#continueOwed = true;
    this.#head = { ...head, expectsContinue: false };
  }

  #take(length: number): Uint8Array | undefined {
    if (this.#buffer.length < length) return undefined;
    const taken = this.#buffer.slice(0, length);
    this.#buffer = this.#buffer.subarray(length);
    return taken;
  }

  #takeHead(): Head | undefined {
    // empty lines before a request are ignored (section 2.2)
    while (this.#buffer[0] === 13 && this.#buffer[1] === 10)
      this.#buffer = this.#buffer.subarray(2);
    const end = endOfHead(this.#buffer);
    if (end < 0) {
      if (this.#buffer.length > limits.head) throw tooLarge();
      return undefined;
    }
    if (end > limits.head) throw tooLarge();
    const text = latin1.decode(this.#buffer.subarray(0, end));
    this.#buffer = this.#buffer.subarray(end + 4);
    return parseHead(text);
  }

  /** A body in chunks, when all of it is there (RFC 9112 section 7.1). Trailers are dropped. */
  #takeChunks(): Uint8Array | undefined {
    this.#chunks ??= { bytes: new Uint8Array(0), total: 0, ended: false };
    const chunks = this.#chunks;
    while (!chunks.ended) if (!this.#takeChunk(chunks)) return undefined;
    for (let line = this.#takeLine(); line !== ""; line = this.#takeLine()) {
      if (line === undefined) return undefined;
    }
    this.#chunks = undefined;
    return chunks.bytes.slice(0, chunks.total);
  }

  /** False while the next chunk is not whole. */
  #takeChunk(chunks: Chunks): boolean {
    const line = this.#line();
    if (line === undefined) return false;
    const size = /^([0-9a-fA-F]{1,8})[ \t]*(?:;.*)?$/.exec(line)?.[1];
    if (size === undefined) throw new HttpRefusal(400, "Malformed chunk size");
    const length = Number.parseInt(size, 16);
    if (chunks.total + length > limits.body) throw bodyTooLarge();
    chunks.ended = length === 0;
    const start = line.length + 2;
    const end = chunks.ended ? start : start + length + 2;
    if (this.#buffer.length < end) return false;
    if (!chunks.ended) {
      if (this.#buffer[end - 2] !== 13 || this.#buffer[end - 1] !== 10) {
        throw new HttpRefusal(400, "A chunk is longer than it says");
      }
      append(chunks, this.#buffer.subarray(start, start + length));
    }
    this.#buffer = this.#buffer.subarray(end);
    return true;
  }

  #takeLine(): string | undefined {
    const line = this.#line();
    if (line !== undefined) this.#buffer = this.#buffer.subarray(line.length + 2);
    return line;
  }

  /** The next line, without its end; undefined while it is not whole. */
  #line(): string | undefined {
    const end = this.#buffer.subarray(0, limits.head).indexOf(13);
    if (end < 0 || end + 1 >= this.#buffer.length) {
      if (this.#buffer.length > limits.head && end < 0) throw tooLarge();
      return undefined;
    }
    if (this.#buffer[end + 1] !== 10) throw new HttpRefusal(400, "A line ends without CRLF");
    return latin1.decode(this.#buffer.subarray(0, end));
  }
}

const tooLarge = () =>
  new HttpRefusal(431, `The request's head is longer than ${limits.head} bytes`);
const bodyTooLarge = () =>
  new HttpRefusal(413, `The request's body is longer than ${limits.body} bytes`);

/** However short the chunks are: a piece of memory for each would be far more than the body. */
function append(chunks: Chunks, bytes: Uint8Array): void {
  const total = chunks.total + bytes.length;
  if (chunks.bytes.length < total) {
    const grown = new Uint8Array(Math.min(total * 2, limits.body));
    grown.set(chunks.bytes.subarray(0, chunks.total));
    chunks.bytes = grown;
  }
  chunks.bytes.set(bytes, chunks.total);
  chunks.total = total;
}

/** Where CRLF CRLF begins, looked for no further than a head may reach; -1 if not there. */
function endOfHead(bytes: Uint8Array): number {
  const last = Math.min(bytes.length, limits.head + 4) - 3;
  for (let at = bytes.indexOf(13); at >= 0 && at < last; at = bytes.indexOf(13, at + 1)) {
    if (bytes[at + 1] === 10 && bytes[at + 2] === 13 && bytes[at + 3] === 10) return at;
  }
  return -1;
}

function parseHead(text: string): Head {
  const [line = "", ...fields] = text.split("\r\n");
  const request = /^(\S+) (\S+) HTTP\/(\d)\.(\d)$/.exec(line);
  if (!request || !token.test(request[1]!)) throw new HttpRefusal(400, "Malformed request line");
  const [, method = "", target = "", major, minor] = request;
  if (major !== "1") throw new HttpRefusal(505, `HTTP/${major}.${minor} is not spoken here`);
  if (fields.length > limits.headers) throw tooLarge();
  const headers = fields.map(parseField);
  const all = (name: string) => headers.filter(([one]) => one === name).map(([, value]) => value);
  const connection = all("connection").join(",").toLowerCase();
  return {
    ...{ method, target, headers, length: lengthOf(all) },
    last: minor === "0" || /(?:^|,)\s*close\s*(?:,|$)/.test(connection),
    expectsContinue: minor !== "0" && all("expect").join().toLowerCase() === "100-continue",
  };
}

function parseField(line: string): readonly [string, string] {
  const colon = line.indexOf(":");
  const name = line.slice(0, Math.max(0, colon));
  const value = line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, "");
  if (!token.test(name) || /[\0\r\n]/.test(value)) throw new HttpRefusal(400, "Malformed header");
  return [name.toLowerCase(), value];
}

/** The body's length: -1 for chunks. Two lengths, or a length and chunks, are how requests are smuggled. */
function lengthOf(all: (name: string) => string[]): number {
  const codings = all("transfer-encoding").join(",").toLowerCase();
  const lengths = new Set(all("content-length"));
  if (codings !== "") {
    if (lengths.size > 0) throw new HttpRefusal(400, "Transfer-Encoding and Content-Length");
    if (codings !== "chunked") throw new HttpRefusal(501, `Transfer-Encoding ${codings}`);
    return -1;
  }
  if (lengths.size > 1) throw new HttpRefusal(400, "Content-Length differs from Content-Length");
  const [text = "0"] = lengths;
  if (!/^\d{1,15}$/.test(text)) throw new HttpRefusal(400, "Malformed Content-Length");
  const length = Number(text);
  if (length > limits.body) throw bodyTooLarge();
  return length;
}
