/** TCP sockets that never wait, of the calling thread's network namespace (tcp(7)). */
import { Block } from "../../src/ffi/block.ts";
import { close } from "../../src/ffi/file.ts";
import { check, libc } from "../../src/ffi/libc.ts";
import { socketLibc } from "../../src/ffi/libc-late.ts";

const [AF_INET, SOCK_STREAM, SOCK_FLAGS] = [2, 1, 0o2004000]; // close-on-exec, non-blocking
const chunkBytes = 1 << 18;
const buffer = new Block(chunkBytes);

function addressOf(address: readonly number[], port: number): Uint8Array {
  return Uint8Array.of(AF_INET, 0, port >> 8, port & 255, ...address, 0, 0, 0, 0, 0, 0, 0, 0);
}
const socket = () => check(socketLibc().socket(AF_INET, SOCK_STREAM | SOCK_FLAGS, 0), "socket");

export function listen(address: readonly number[], port: number): number {
  const fd = socket();
  check(socketLibc().bind(fd, addressOf(address, port), 16), "bind");
  check(socketLibc().listen(fd, 1), "listen");
  return fd;
}

export function connect(address: readonly number[], port: number): number {
  const fd = socket();
  socketLibc().connect(fd, addressOf(address, port), 16); // goes on by itself
  return fd;
}

/** The connection that has come; -1 when there is none yet. */
export const accept = (fd: number): number => socketLibc().accept4(fd, null, null, SOCK_FLAGS);

/** Sends and receives as far as can be done now. */
export class Talk {
  readonly received: Uint8Array[] = [];
  #sent = 0;
  #count = 0;

  constructor(
    readonly fd: number,
    readonly toSend: Uint8Array,
  ) {}

  get receivedBytes(): number {
    return this.#count;
  }

  go(): void {
    while (this.#sent < this.toSend.length) {
      const rest = this.toSend.subarray(this.#sent, this.#sent + chunkBytes);
      buffer.bytes.set(rest);
      const count = Number(
        socketLibc().send(this.fd, buffer.address as never, rest.length, 0x4000),
      );
      if (count <= 0) break;
      this.#sent += count;
    }
    for (;;) {
      const count = Number(libc.read(this.fd, buffer.address as never, chunkBytes));
      if (count <= 0) return;
      this.received.push(buffer.bytes.slice(0, count));
      this.#count += count;
    }
  }

  close(): void {
    close(this.fd);
  }
}
