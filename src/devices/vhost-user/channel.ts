/**
 * One connection to a front end: whole messages in, replies out. The peer may send anything: sizes and counts are
 * checked here, what they mean is the session's affair. Every descriptor that came with a message is closed when the
 * next one is read, unless `takeFd` has given it to somebody.
 */
import { Block } from "../../ffi/block.ts";
import { close } from "../../ffi/file.ts";
import { Errno } from "../../ffi/libc.ts";
import { receiveMessage, sendMessage } from "../../ffi/messages.ts";
import { BadMessage } from "./errors.ts";
import { Header, headerVersion, replyFlag, versionMask } from "./protocol.ts";

/** More than the longest message has: a table of 8 regions, 12 and 256 bytes of configuration space. */
const maxPayload = 1024;
/** Descriptors of one message: a table of regions has the most. */
const maxFds = 8;
/** Words of a channel's state: bytes of the message that have come, and 1 when it is whole and was given out. */
const [filled, given] = [0, 1];

export class Channel {
  private readonly incoming = new Block(Header.size + maxPayload);
  private readonly outgoing = new Block(Header.size + maxPayload);
  private readonly header = new Header(this.incoming.view);
  private readonly state = new Uint32Array(2);
  private readonly fds: number[] = [];

  /** The channel takes over the socket. */
  constructor(readonly fd: number) {}

  get request(): number {
    return this.header.request;
  }
  get flags(): number {
    return this.header.flags;
  }
  /** Of the payload, in bytes. */
  get size(): number {
    return this.header.size;
  }
  get fdCount(): number {
    return this.fds.length;
  }

  /** Where the payload begins; it is there until the next `read`. */
  get payload(): DataView {
    return new DataView(this.incoming.buffer, Header.size, this.size);
  }

  /** Reads on: "message" when one is whole, "wait" when more must come, "gone" when the peer is. Throws BadMessage. */
  read(): "message" | "wait" | "gone" {
    const { state, incoming, fds } = this;
    if (state[given] === 1) this.begin();
    while (state[filled] !== this.wanted || state[filled]! < Header.size) {
      const at = incoming.address + state[filled]!;
      const count = receiveMessage(this.fd, at, this.wanted - state[filled]!, fds);
      if (count === -Errno.EAGAIN) return "wait";
      if (count === -Errno.EMSGSIZE || fds.length > maxFds) {
        throw new BadMessage("too many descriptors");
      }
      if (count <= 0) return "gone";
      state[filled]! += count;
      if (state[filled] === Header.size) this.checkHeader();
    }
    state[given] = 1;
    return "message";
  }

  /** A descriptor of the message, which is the caller's from now on. Throws BadMessage when there is none. */
  takeFd(): number {
    const fd = this.fds.shift();
    if (fd === undefined) throw new BadMessage(`request ${this.request} without a descriptor`);
    return fd;
  }

  /** A descriptor of the message, still the channel's; -1 when there is none. */
  fdAt(index: number): number {
    return this.fds[index] ?? -1;
  }

  /** All descriptors of the message are somebody else's from now on. */
  giveFds(): void {
    this.fds.length = 0;
  }

  /** Answers the message that was read last; false when the peer does not take it. */
  reply(payload: Uint8Array, fds: readonly number[] = []): boolean {
    return this.send(this.request, headerVersion | replyFlag, payload, fds);
  }

  /** Sends a message, whole or not at all. A peer that lets replies pile up does not take them. */
  send(request: number, flags: number, payload: Uint8Array, fds: readonly number[] = []): boolean {
    const header = new Header(this.outgoing.view);
    header.request = request;
    header.flags = flags;
    header.size = payload.length;
    this.outgoing.bytes.set(payload, Header.size);
    const length = Header.size + payload.length;
    return sendMessage(this.fd, this.outgoing.address, length, fds) === length;
  }

  /** Closes the descriptors of the message that nobody took. */
  closeFds(): void {
    for (const fd of this.fds.splice(0)) close(fd);
  }

  close(): void {
    this.closeFds();
    close(this.fd);
  }

  /** Bytes that the message has, as far as is known. */
  private get wanted(): number {
    return this.state[filled]! < Header.size ? Header.size : Header.size + this.size;
  }

  private begin(): void {
    this.closeFds();
    this.state.fill(0);
  }

  private checkHeader(): void {
    const { request, flags, size } = this;
    if ((flags & versionMask) !== headerVersion || (flags & replyFlag) !== 0) {
      throw new BadMessage(`request ${request} with flags 0x${flags.toString(16)}`);
    }
    if (size > maxPayload) throw new BadMessage(`request ${request} of ${size} bytes`);
  }
}
