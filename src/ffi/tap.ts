/**
 * Taps (Documentation/networking/tuntap.rst): Ethernet interfaces whose other end is a descriptor. A frame is one
 * read(2) or write(2), here always with the header of virtio in front (IFF_VNET_HDR) and without protocol information.
 */
import { allocate, Block } from "./block.ts";
import { duplicate, Open, open, statusFlags } from "./file.ts";
import { readVectorRaw, writeVectorRaw } from "./frame-call.ts";
import { ioctl } from "./ioctl.ts";
import { check, errno, libc, SystemError } from "./libc.ts";
import {
  IFF_ATTACH_QUEUE,
  IFF_DETACH_QUEUE,
  IFF_MULTI_QUEUE,
  IFF_NO_PI,
  IFF_TAP,
  IFF_VNET_HDR,
  IFNAMSIZ,
  IfreqFlags,
  TUNGETIFF,
  TUNSETIFF,
  TUNSETOFFLOAD,
  TUNSETQUEUE,
  TUNSETVNETHDRSZ,
  TUNSETVNETLE,
} from "./net-abi.ts";

const F_SETFD = 2;
const F_SETFL = 4;
const FD_CLOEXEC = 1;

/** The name of an interface as its bytes; at most 15. Throws RangeError. */
export function interfaceName(name: string): Uint8Array {
  const text = new TextEncoder().encode(name);
  if (text.length >= IFNAMSIZ) throw new RangeError(`"${name}" is longer than 15 bytes`);
  return text;
}

export function nameOf(text: Uint8Array): string {
  const end = text.indexOf(0);
  return new TextDecoder().decode(end < 0 ? text : text.subarray(0, end));
}

/** A descriptor of the tap driver with no interface yet, non-blocking. Throws SystemError. */
export const openTun = (): number => open("/dev/net/tun", Open.readWrite | Open.nonBlock);

/**
 * Gives it a queue of the tap `name`, which is made if there is none ("%d" in it stands for the first free number). The
 * name comes back. A tap is multi-queue or not for its whole life. Throws SystemError.
 */
export function attachTap(
  fd: number,
  name: string,
  multiQueue: boolean,
  framing = IFF_NO_PI | IFF_VNET_HDR,
): string {
  const request = allocate(IfreqFlags);
  request.fields.ifr_name = interfaceName(name);
  const flags = IFF_TAP | framing;
  request.fields.ifr_flags = multiQueue ? flags | IFF_MULTI_QUEUE : flags;
  ioctl(fd, TUNSETIFF, request);
  return nameOf(request.fields.ifr_name);
}

/** What a descriptor is a queue of, as someone else opened it. */
export interface TapQueue {
  readonly name: string;
  /** A tap, and not a tun. */
  readonly ethernet: boolean;
  /** The header of virtio in front of each frame, and nothing else. */
  readonly virtioHeader: boolean;
}

/** Undefined when the descriptor is no tap's. */
export function tapQueue(fd: number): TapQueue | undefined {
  const request = allocate(IfreqFlags);
  try {
    ioctl(fd, TUNGETIFF, request);
  } catch (error) {
    if (error instanceof SystemError) return undefined;
    throw error;
  }
  const { ifr_flags: flags } = request.fields;
  const virtioHeader = (flags & IFF_VNET_HDR) !== 0 && (flags & IFF_NO_PI) !== 0;
  return { name: nameOf(request.fields.ifr_name), ethernet: (flags & IFF_TAP) !== 0, virtioHeader };
}

/**
 * A descriptor of our own for a tap that was inherited: close-on-exec, as the inherited one is from now on, and
 * non-blocking. Throws SystemError.
 */
export function takeTap(inherited: number): number {
  const fd = duplicate(inherited);
  check(libc.fcntl(inherited, F_SETFD, FD_CLOEXEC), "fcntl(F_SETFD)");
  check(libc.fcntl(fd, F_SETFL, statusFlags(fd) | Open.nonBlock), "fcntl(F_SETFL)");
  return fd;
}

/**
 * One frame by readv(2) into `count` iovecs at a host address: its length, minus the errno if there is none. What does
 * not fit is cut off.
 */
export function readFrame(fd: number, iovecs: number, count: number): number {
  const length = readVectorRaw(fd, iovecs, count);
  return length < 0 ? -errno() : length;
}

/** One frame by writev(2) from `count` iovecs at a host address: its length, or minus the errno. */
export function writeFrame(fd: number, iovecs: number, count: number): number {
  const length = writeVectorRaw(fd, iovecs, count);
  return length < 0 ? -errno() : length;
}

const word = new Block(4);

/** The header is `bytes` long and little-endian. Needs no privilege. */
export function setVirtioHeader(fd: number, bytes: number): void {
  word.view.setInt32(0, bytes, true);
  ioctl(fd, TUNSETVNETHDRSZ, word);
  word.view.setInt32(0, 1, true);
  ioctl(fd, TUNSETVNETLE, word);
}

/** The calls on a tap in use, for those who are handed them. They return 0 or a length, or minus the errno. */
export interface TapCalls {
  readonly readFrame: typeof readFrame;
  readonly writeFrame: typeof writeFrame;
  /** What the reader takes from now on: TUN_F_ bits, for all queues of the tap. */
  setOffload(fd: number, flags: number): number;
  /** Whether the kernel steers frames to this queue of a multi-queue tap. What waits in it is dropped. */
  setAttached(fd: number, attached: boolean): number;
}

const attach = allocate(IfreqFlags);

const outcome = (run: () => void): number => {
  try {
    run();
    return 0;
  } catch (error) {
    if (error instanceof SystemError) return -error.errno;
    throw error;
  }
};

export const tapCalls: TapCalls = {
  readFrame,
  writeFrame,
  setOffload: (fd, flags) => outcome(() => ioctl(fd, TUNSETOFFLOAD, flags)),
  setAttached: (fd, attached) =>
    outcome(() => {
      attach.fields.ifr_flags = attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
      ioctl(fd, TUNSETQUEUE, attach);
    }),
};
