/**
 * One client of the socket: its requests in order, one at a time, and its answers. Reading and writing never wait; what
 * the client does not take is kept, up to a limit: beyond it no further request is looked at, and a
 * stream's slow reader is let go.
 */
import { Block } from "../../ffi/block.ts";
import { monotonicNs } from "../../ffi/clock.ts";
import { close } from "../../ffi/file.ts";
import { Errno } from "../../ffi/libc.ts";
import { receiveMessage } from "../../ffi/messages.ts";
import { endSending, sendSome } from "../../ffi/unix-socket.ts";
import { HttpRefusal, type HttpRequest, RequestParser } from "./parser.ts";
import {
  continueResponse,
  type HttpResponse,
  refusalResponse,
  streamEnd,
  streamHead,
  streamPiece,
  wholeResponse,
} from "./response.ts";

const copyBytes = 64 * 1024;
/** Descriptors that one connection may have waiting. */
const descriptorsMax = 253;
/** What a client may be behind and be given a further answer. */
const answerBacklog = 256 * 1024;
/** What a stream's reader may be behind. */
const streamBacklog = 4 * 1024 * 1024;
/** How long a client that is being let go may take to notice. */
const lingerNs = 2e9;
/** How long a request may take to arrive whole. */
export const requestTimeoutNs = 60e9;

/** What comes, and what goes, on its way to and from the kernel. */
const [received, sending] = [new Block(copyBytes), new Block(copyBytes)];

/** A whole request, and the descriptors that came with it or before it. */
export interface Arrived {
  readonly request: HttpRequest;
  readonly fds: readonly number[];
}

export class Connection {
  readonly #parser = new RequestParser();
  readonly #out: Uint8Array[] = [];
  #outBytes = 0;
  #fds: number[] = [];
  /** The request that is being answered. */
  #current: HttpRequest | undefined;
  #streaming = false;
  /** No further request is read; the connection ends when all is sent. */
  #closing = false;
  #readEnd = false;
  #brokenOff = false;
  /** All is said; the client is given until then to hear it. 0: not yet. */
  #lingerNs = 0;
  /** Since when a request is on its way; 0 when none is. */
  #beganNs = 0;
  /** The client has to read before its next request is looked at. */
  #held = false;

  constructor(readonly fd: number) {}

  /** Nobody is there any more, or nothing is left to say: the owner closes. */
  over(nowNs: number): boolean {
    if (this.#brokenOff) return true;
    if (this.#current || this.#outBytes > 0) return false;
    return this.#readEnd || (this.#lingerNs > 0 && nowNs >= this.#lingerNs);
  }

  get answering(): boolean {
    return this.#current !== undefined;
  }

  get wantsRead(): boolean {
    return !this.#readEnd && (this.#closing || !this.#parser.full);
  }

  get wantsWrite(): boolean {
    return this.#outBytes > 0;
  }

  /** Takes what has come. The next request, if it is whole and none is being answered. */
  read(nowNs: number): Arrived | undefined {
    const count = receiveMessage(this.fd, received.address, copyBytes, this.#fds);
    if (count === -Errno.EAGAIN || count === -Errno.EINTR) return undefined;
    if (count < 0) this.#brokenOff = true;
    if (count <= 0) {
      this.#readEnd = true;
      return undefined;
    }
    if (this.#fds.length > descriptorsMax) {
      this.#refuse(new HttpRefusal(400, `More than ${descriptorsMax} descriptors`));
      return undefined;
    }
    if (this.#closing) return undefined;
    if (this.#beganNs === 0) this.#beganNs = nowNs;
    this.#parser.push(received.bytes.subarray(0, count));
    return this.next(nowNs);
  }

  /** The next request of what was read before, when none is being answered. */
  next(nowNs: number): Arrived | undefined {
    if (this.#current || this.#closing || this.#brokenOff) return undefined;
    if (this.#outBytes > answerBacklog) {
      this.#held = true;
      return undefined;
    }
    if (this.#held) {
      this.#held = false;
      this.#beganNs = nowNs; // what has come meanwhile was not late
    }
    try {
      const request = this.#parser.next();
      if (!request) {
        if (this.#parser.takeContinue()) this.#send(continueResponse);
        if (this.#parser.pending === 0) this.#beganNs = 0;
        return undefined;
      }
      this.#beganNs = this.#parser.pending === 0 ? 0 : nowNs;
      this.#current = request;
      const fds = this.#fds;
      this.#fds = [];
      return { request, fds };
    } catch (error) {
      if (!(error instanceof HttpRefusal)) throw error;
      this.#refuse(error);
      return undefined;
    }
  }

  /** A request that does not become whole in time costs the connection. */
  expire(nowNs: number): void {
    if (!this.#arriving || nowNs < this.expiresNs) return;
    this.#refuse(new HttpRefusal(408, "The request did not arrive whole in time"));
  }

  get #arriving(): boolean {
    return !this.#current && !this.#closing && !this.#held && this.#beganNs > 0;
  }

  /** The moment from which on `expire` or `over` has something to say; infinity when there is none. */
  get expiresNs(): number {
    if (this.#lingerNs > 0) return this.#lingerNs;
    return this.#arriving ? this.#beganNs + requestTimeoutNs : Number.POSITIVE_INFINITY;
  }

  /** No further request is looked at. */
  finish(): void {
    this.#closing = true;
  }

  /** One more client than may be. */
  turnAway(): void {
    this.#refuse(new HttpRefusal(503, "Too many connections; try again when one has ended"));
  }

  #refuse({ status, message }: HttpRefusal): void {
    this.#closing = true;
    this.#send(wholeResponse(refusalResponse(status, message), false, true));
  }

  answer(response: HttpResponse): void {
    const request = this.#current;
    if (!request) return;
    this.#done(request);
    this.#send(wholeResponse(response, request.method === "HEAD", request.last));
  }

  beginStream(status: number, headers: HttpResponse["headers"]): void {
    if (!this.#current) return;
    this.#streaming = true;
    this.#send(streamHead(status, headers, !this.#current.last));
  }

  /** False when the reader is too far behind, or has gone: there is no use in more. */
  streamed(bytes: Uint8Array): boolean {
    if (!this.#current || !this.#streaming || this.#brokenOff) return false;
    this.#send(streamPiece(bytes, !this.#current.last));
    if (this.#outBytes > streamBacklog) this.#brokenOff = true;
    return !this.#brokenOff;
  }

  endStream(): void {
    const request = this.#current;
    if (!request || !this.#streaming) return;
    this.#done(request);
    if (request.last || request.method === "HEAD") this.write();
    else this.#send(streamEnd);
  }

  #done(request: HttpRequest): void {
    this.#current = undefined;
    this.#streaming = false;
    if (request.last) this.#closing = true;
  }

  #send(bytes: Uint8Array): void {
    if (this.#brokenOff) return;
    this.#out.push(bytes);
    this.#outBytes += bytes.length;
    this.write();
  }

  /** Sends what it can. */
  write(): void {
    while (this.#out.length > 0) {
      const first = this.#out[0]!;
      const piece = first.subarray(0, copyBytes);
      sending.bytes.set(piece);
      const count = sendSome(this.fd, sending.address, piece.length);
      if (count === -Errno.EINTR) continue;
      if (count === -Errno.EAGAIN) return;
      if (count < 0) {
        this.#brokenOff = true;
        return;
      }
      this.#outBytes -= count;
      if (count === first.length) this.#out.shift();
      else this.#out[0] = first.subarray(count);
    }
    if (this.#closing && !this.#current && this.#lingerNs === 0) this.#saidAll();
  }

  /** Tells the client that nothing follows. It is let finish what it sends, which nobody looks at, and hear it. */
  #saidAll(): void {
    this.#lingerNs = monotonicNs() + lingerNs;
    endSending(this.fd);
  }

  /** The client has gone altogether, or is let go. */
  hangUp(): void {
    this.#brokenOff = true;
  }

  close(): void {
    for (const fd of this.#fds) close(fd);
    this.#fds = [];
    close(this.fd);
  }
}
