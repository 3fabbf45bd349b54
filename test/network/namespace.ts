/**
 * A network namespace of a test. Only the calling thread enters it, for the length of a function; descriptors that are
 * opened inside keep it alive, and it goes with the last of them. There is nothing to clean up on the host.
 */
import { writeFileSync } from "node:fs";
import { Block } from "../../src/ffi/block.ts";
import { close, Open, open } from "../../src/ffi/file.ts";
import { check, libc } from "../../src/ffi/libc.ts";
import { socketLibc } from "../../src/ffi/libc-late.ts";

const CLONE_NEWNET = 0x4000_0000;
const [SYS_setsockopt, SYS_unshare, SYS_setns] = [54, 272, 308];
const SIOCGIFINDEX = 0x8933;

const syscall = (number: number, ...args: number[]): number => {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = args;
  return check(Number(libc.syscall(number, a, b, c, d, e, f)), `syscall ${number}`);
};

const current = () => open("/proc/thread-self/ns/net", Open.readOnly);

export class NetworkNamespace {
  readonly #fd: number;

  constructor() {
    const outside = current();
    try {
      syscall(SYS_unshare, CLONE_NEWNET);
      this.#fd = current();
      // the kernel's own chatter (router solicitations, …) is not for tests
      for (const which of ["all", "default"]) {
        writeFileSync(`/proc/sys/net/ipv6/conf/${which}/disable_ipv6`, "1");
      }
    } finally {
      syscall(SYS_setns, outside, CLONE_NEWNET);
      close(outside);
    }
  }

  /** Where another process finds it: for `nsenter --net=`. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.#fd}`;
  }

  /** Runs something in the namespace; it must not wait for anything. */
  run<T>(inside: () => T): T {
    const outside = current();
    try {
      syscall(SYS_setns, this.#fd, CLONE_NEWNET);
      return inside();
    } finally {
      syscall(SYS_setns, outside, CLONE_NEWNET);
      close(outside);
    }
  }

  /** Output of a command in the namespace. */
  command(...words: string[]): string {
    const { stdout, stderr, exitCode } = this.run(() => Bun.spawnSync(words));
    if (exitCode !== 0) throw new Error(`test: ${words.join(" ")}: ${stderr}`);
    return stdout.toString();
  }

  [Symbol.dispose](): void {
    close(this.#fd);
  }
}

const [AF_INET, AF_PACKET, SOCK_DGRAM, SOCK_RAW] = [2, 17, 2, 3];
const SOCK_FLAGS = 0o2004000; // close-on-exec, non-blocking
const ETH_P_ALL_BIG_ENDIAN = 0x0300;
const SOL_PACKET = 263;
const [PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING] = [15, 23];

/** In the namespace. */
export function interfaceIndex(name: string): number {
  const request = new Block(40);
  request.bytes.set(new TextEncoder().encode(name));
  const socket = check(socketLibc().socket(AF_INET, SOCK_DGRAM | SOCK_FLAGS, 0), "socket");
  try {
    check(libc.ioctl(socket, SIOCGIFINDEX, request.address), "SIOCGIFINDEX");
  } finally {
    close(socket);
  }
  return request.view.getInt32(16, true);
}

/** The host's side of an interface: frames as they are on the wire, both ways. */
export class PacketSocket {
  readonly fd: number;
  readonly #buffer = new Block(70_000);

  /** In the namespace. With `header`, a virtio_net_hdr of 10 bytes is in front of each frame, both ways. */
  constructor(name: string, header = false) {
    const kind = SOCK_RAW | SOCK_FLAGS;
    this.fd = check(socketLibc().socket(AF_PACKET, kind, ETH_P_ALL_BIG_ENDIAN), "socket");
    const on = new Block(4);
    on.view.setInt32(0, 1, true);
    syscall(SYS_setsockopt, this.fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, on.address, 4);
    if (header) syscall(SYS_setsockopt, this.fd, SOL_PACKET, PACKET_VNET_HDR, on.address, 4);
    const address = new Block(20); // struct sockaddr_ll
    address.view.setUint16(0, AF_PACKET, true);
    address.view.setUint16(2, ETH_P_ALL_BIG_ENDIAN, true);
    address.view.setInt32(4, interfaceIndex(name), true);
    check(socketLibc().bind(this.fd, address.address as never, 20), "bind");
  }

  send(frame: Uint8Array): void {
    this.#buffer.bytes.set(frame);
    const sent = Number(libc.write(this.fd, this.#buffer.address as never, frame.length));
    check(sent, "send");
  }

  /** The next frame that came in; undefined when there is none. */
  receive(): Uint8Array | undefined {
    const length = Number(libc.read(this.fd, this.#buffer.address as never, 70_000));
    return length < 0 ? undefined : this.#buffer.bytes.slice(0, length);
  }

  close(): void {
    close(this.fd);
  }
}
