/** A client that sends descriptors beside its bytes, and reads what is answered. */
import { Block } from "../../src/ffi/block.ts";
import { close, readSome } from "../../src/ffi/file.ts";
import { check, Errno } from "../../src/ffi/libc.ts";
import { socketLibc } from "../../src/ffi/libc-late.ts";
import { sendMessage } from "../../src/ffi/messages.ts";

const AF_UNIX = 1;
const SOCK_FLAGS = 0o2004001; // a stream, close-on-exec, non-blocking
const roomBytes = 65_536;

export class DescriptorClient implements Disposable {
  readonly #fd: number;
  readonly #room = new Block(roomBytes);
  #received = "";

  constructor(path: string) {
    const address = new Block(110); // struct sockaddr_un
    address.view.setUint16(0, AF_UNIX, true);
    address.bytes.set(new TextEncoder().encode(path), 2);
    this.#fd = check(socketLibc().socket(AF_UNIX, SOCK_FLAGS, 0), "socket");
    check(socketLibc().connect(this.#fd, address.bytes, 3 + Buffer.byteLength(path)), "connect");
  }

  /** One sendmsg(2). */
  send(text: string, ...fds: number[]): void {
    const bytes = new TextEncoder().encode(text);
    this.#room.bytes.set(bytes);
    const sent = sendMessage(this.#fd, this.#room.address, bytes.length, fds);
    if (sent !== bytes.length) throw new Error(`sent ${sent} bytes of ${bytes.length}`);
  }

  /** The status and the body of the next answer. */
  async answer(): Promise<{ status: number; body: string }> {
    for (;;) {
      const end = this.#received.indexOf("\r\n\r\n") + 4;
      const head = this.#received.slice(0, end);
      const length = Number(/\r\nContent-Length: (\d+)\r\n/.exec(head)?.[1] ?? 0);
      if (end >= 4 && this.#received.length >= end + length) {
        const body = this.#received.slice(end, end + length);
        this.#received = this.#received.slice(end + length);
        return { status: Number(head.slice(9, 12)), body };
      }
      const count = readSome(this.#fd, this.#room.address, roomBytes);
      if (count === 0) throw new Error(`the server ended after: ${this.#received}`);
      if (count > 0) this.#received += Buffer.from(this.#room.bytes.subarray(0, count)).toString();
      else if (count !== -Errno.EAGAIN) throw new Error(`read: ${count}`);
      else await Bun.sleep(1);
    }
  }

  [Symbol.dispose](): void {
    close(this.#fd);
  }
}

/** A request as the Go driver of 2026 sends it: all of it in one piece. */
export const whole = (operation: string, body: object): string => {
  const text = JSON.stringify(body);
  return [
    `PUT /api/v1/${operation} HTTP/1.1`,
    ...["Host: localhost", "Accept: */*", `Content-Length: ${text.length}`],
    ...["Content-Type: application/json", "", text],
  ].join("\r\n");
};
