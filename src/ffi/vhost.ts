/**
 * vhost-net: the kernel serves one pair of virtqueues between guest memory and a tap. Queue 0 is the one that the guest
 * receives from, 1 the one that it transmits to. All calls throw SystemError.
 */
import { allocate, Block } from "./block.ts";
import { Open, open } from "./file.ts";
import { ioctl, type Request } from "./ioctl.ts";
import {
  VHOST_GET_FEATURES,
  VHOST_GET_VRING_BASE,
  VHOST_NET_SET_BACKEND,
  VHOST_SET_FEATURES,
  VHOST_SET_MEM_TABLE,
  VHOST_SET_OWNER,
  VHOST_SET_VRING_ADDR,
  VHOST_SET_VRING_BASE,
  VHOST_SET_VRING_CALL,
  VHOST_SET_VRING_ERR,
  VHOST_SET_VRING_KICK,
  VHOST_SET_VRING_NUM,
  VhostMemory,
  VhostMemoryRegion,
  VhostVringAddr,
  VhostVringFile,
  VhostVringState,
} from "./vhost-abi.ts";

/** A piece of guest RAM: guest-physical start, bytes, and where it lies in this process. */
interface Region {
  readonly start: number;
  readonly length: number;
  readonly hostAddress: number;
}

/** The rings of a queue, at addresses of this process, and where to go on in them. */
export interface VhostRing {
  readonly size: number;
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  readonly nextAvail: number;
  /** Eventfds: what the driver kicks, what tells it, and what tells us of a broken ring. */
  readonly kickFd: number;
  readonly callFd: number;
  readonly errorFd: number;
}

export const openVhostNet = (): number => open("/dev/vhost-net", Open.readWrite);

export type VhostCall = (fd: number, request: Request, argument?: Block | number) => number;

/** The feature bits that vhost knows of. */
export function vhostFeatures(fd: number, call: VhostCall = ioctl): bigint {
  const argument = new Block(8);
  call(fd, VHOST_GET_FEATURES, argument);
  return argument.view.getBigUint64(0, true);
}

export class VhostNet {
  /** `call` is ioctl(2); it comes from outside so that it can be listened to. */
  constructor(
    readonly fd: number,
    readonly call: VhostCall = ioctl,
  ) {}

  /** This process's memory is the one that addresses are of: once, before all else. */
  own(): void {
    this.call(this.fd, VHOST_SET_OWNER);
  }

  /** What the driver accepted, as far as vhost knows it. No queue may be running. */
  setFeatures(features: bigint): void {
    const argument = new Block(8);
    argument.view.setBigUint64(0, features & vhostFeatures(this.fd, this.call), true);
    this.call(this.fd, VHOST_SET_FEATURES, argument);
  }

  setMemory(regions: readonly Region[]): void {
    const argument = allocate(VhostMemory, regions.length * VhostMemoryRegion.size);
    argument.fields.nregions = regions.length;
    const region = new VhostMemoryRegion(argument.view, VhostMemory.size);
    for (const { start, length, hostAddress } of regions) {
      region.guest_phys_addr = start;
      region.memory_size = length;
      region.userspace_addr = hostAddress;
      region.at += VhostMemoryRegion.size;
    }
    this.call(this.fd, VHOST_SET_MEM_TABLE, argument);
  }

  setRing(index: number, ring: VhostRing): void {
    this.#state(VHOST_SET_VRING_NUM, index, ring.size);
    this.#state(VHOST_SET_VRING_BASE, index, ring.nextAvail);
    const address = allocate(VhostVringAddr);
    address.fields.index = index;
    address.fields.desc_user_addr = ring.desc;
    address.fields.avail_user_addr = ring.avail;
    address.fields.used_user_addr = ring.used;
    this.call(this.fd, VHOST_SET_VRING_ADDR, address);
    this.#file(VHOST_SET_VRING_ERR, index, ring.errorFd);
    this.#file(VHOST_SET_VRING_CALL, index, ring.callFd);
    this.#file(VHOST_SET_VRING_KICK, index, ring.kickFd);
  }

  /** Runs a queue on the tap, or stops it (-1): then nothing of it is in flight. */
  setBackend(index: number, tap: number): void {
    this.#file(VHOST_NET_SET_BACKEND, index, tap);
  }

  /** Where a stopped queue stands: the index of the next avail entry. */
  base(index: number): number {
    return this.#state(VHOST_GET_VRING_BASE, index, 0);
  }

  #state(request: Request, index: number, num: number): number {
    const argument = allocate(VhostVringState);
    argument.fields.index = index;
    argument.fields.num = num;
    this.call(this.fd, request, argument);
    return argument.fields.num;
  }

  #file(request: Request, index: number, fd: number): void {
    const argument = allocate(VhostVringFile);
    argument.fields.index = index;
    argument.fields.fd = fd;
    this.call(this.fd, request, argument);
  }
}
