/** KVM's calls, typed. Expected outcomes (EINTR from the guest) are return values; the rest throws SystemError. */
import { allocate, Block } from "./block.ts";
import { Open, open } from "./file.ts";
import { ioctl } from "./ioctl.ts";
import {
  KVM_CHECK_EXTENSION,
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_ENABLE_CAP,
  KVM_GET_API_VERSION,
  KVM_GET_CLOCK,
  KVM_GET_MSR_INDEX_LIST,
  KVM_GET_SUPPORTED_CPUID,
  KVM_GET_VCPU_MMAP_SIZE,
  KVM_IOEVENTFD,
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  KVM_IOEVENTFD_FLAG_DEASSIGN,
  KVM_IRQ_ROUTING_MSI,
  KVM_IRQFD,
  KVM_IRQFD_FLAG_DEASSIGN,
  KVM_KVMCLOCK_CTRL,
  KVM_RUN,
  KVM_SET_CLOCK,
  KVM_SET_CPUID2,
  KVM_SET_GSI_ROUTING,
  KVM_SET_IDENTITY_MAP_ADDR,
  KVM_SET_TSS_ADDR,
  KVM_SET_USER_MEMORY_REGION,
  KVM_SIGNAL_MSI,
  KvmClockData,
  KvmCpuid2,
  KvmCpuidEntry2,
  KvmEnableCap,
  KvmIoeventfd,
  KvmIrqfd,
  KvmIrqRouting,
  KvmIrqRoutingMsi,
  KvmMsi,
  KvmMsrList,
  KvmUserspaceMemoryRegion,
} from "./kvm-abi.ts";
import { Errno, errno, libc, SystemError } from "./libc.ts";

/** A /dev/kvm descriptor. Throws SystemError. */
export function openKvm(): number {
  return open("/dev/kvm", Open.readWrite);
}

export const apiVersion = (kvm: number): number => ioctl(kvm, KVM_GET_API_VERSION);

/** What KVM says of a capability: 0 when it has none. Ask a VM's descriptor where there is one. */
export const checkExtension = (fd: number, cap: number): number =>
  ioctl(fd, KVM_CHECK_EXTENSION, cap);

export const createVm = (kvm: number): number => ioctl(kvm, KVM_CREATE_VM, 0);
export const createVcpu = (vm: number, id: number): number => ioctl(vm, KVM_CREATE_VCPU, id);
export const vcpuMmapSize = (kvm: number): number => ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE);

export function enableCap(vm: number, cap: number, argument: bigint): void {
  const block = allocate(KvmEnableCap);
  block.fields.cap = cap;
  block.fields.args.set(0, argument);
  ioctl(vm, KVM_ENABLE_CAP, block);
}

/** Intel needs three pages for its TSS and one for an identity map, below 4 GiB and outside RAM. */
export function setTssAndIdentityMap(vm: number, tss: number, identityMap: number): void {
  const block = new Block(8);
  block.view.setBigUint64(0, BigInt(identityMap), true);
  ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, block);
  ioctl(vm, KVM_SET_TSS_ADDR, tss);
}

/** A slot of guest memory; `size` 0 removes it. */
export function setMemorySlot(
  vm: number,
  slot: number,
  guestAddress: number,
  size: number,
  hostAddress: number,
): void {
  const block = allocate(KvmUserspaceMemoryRegion);
  const region = block.fields;
  region.slot = slot;
  region.guest_phys_addr = guestAddress;
  region.memory_size = size;
  region.userspace_addr = hostAddress;
  ioctl(vm, KVM_SET_USER_MEMORY_REGION, block);
}

/** CPUID leaves as KVM takes them: a table of `kvm_cpuid_entry2` behind a count. */
export class CpuidTable {
  readonly #block: Block;
  readonly #head: InstanceType<typeof KvmCpuid2>;
  readonly capacity: number;
  constructor(capacity: number) {
    this.capacity = capacity;
    this.#block = new Block(KvmCpuid2.size + capacity * KvmCpuidEntry2.size);
    this.#head = new KvmCpuid2(this.#block.view);
  }

  get length(): number {
    return this.#head.nent;
  }
  set length(count: number) {
    if (count > this.capacity) throw new RangeError(`${count} CPUID leaves for ${this.capacity}`);
    this.#head.nent = count;
  }

  entry(index: number): InstanceType<typeof KvmCpuidEntry2> {
    return new KvmCpuidEntry2(this.#block.view, KvmCpuid2.size + index * KvmCpuidEntry2.size);
  }

  /** Copies a leaf over another. */
  move(from: number, to: number): void {
    const [start, size] = [KvmCpuid2.size, KvmCpuidEntry2.size];
    const at = start + from * size;
    this.#block.bytes.copyWithin(start + to * size, at, at + size);
  }

  /** What this KVM can offer a guest. */
  static supported(kvm: number): CpuidTable {
    for (let capacity = 128; ; capacity *= 2) {
      const table = new CpuidTable(capacity);
      table.length = capacity;
      try {
        ioctl(kvm, KVM_GET_SUPPORTED_CPUID, table.#block);
        return table;
      } catch (error) {
        const tooSmall = error instanceof SystemError && error.code === "E2BIG";
        if (!tooSmall || capacity > 4096) throw error;
      }
    }
  }

  /** A copy with room for `extra` more leaves. */
  copy(extra: number): CpuidTable {
    const copy = new CpuidTable(this.length + extra);
    copy.#block.bytes.set(this.#block.bytes.subarray(0, KvmCpuid2.size + this.length * 40));
    return copy;
  }

  /** Gives the leaves to a vCPU. */
  apply(vcpu: number): void {
    ioctl(vcpu, KVM_SET_CPUID2, this.#block);
  }
}

/** The MSRs that this KVM can save and restore. */
export function msrIndexList(kvm: number): number[] {
  const capacity = 4096;
  const block = new Block(KvmMsrList.size + capacity * 4);
  const head = new KvmMsrList(block.view);
  head.nmsrs = capacity;
  ioctl(kvm, KVM_GET_MSR_INDEX_LIST, block);
  const indexes: number[] = [];
  for (let i = 0; i < Math.min(head.nmsrs, capacity); i++) {
    indexes.push(block.view.getUint32(KvmMsrList.size + i * 4, true));
  }
  return indexes;
}

const message = allocate(KvmMsi);

/** Sends an MSI to the local APICs. Allocates nothing. */
export function signalMsi(vm: number, address: number, data: number): void {
  message.view.setUint32(0, address, true);
  message.view.setUint32(8, data, true);
  libc.ioctl(vm, KVM_SIGNAL_MSI.code, message.address);
}

/** KVM's whole interrupt routing table, of MSI entries. */
export class RoutingBuffer {
  readonly #block: Block;
  readonly #entry: InstanceType<typeof KvmIrqRoutingMsi>;
  #count = 0;
  constructor(capacity: number) {
    this.#block = new Block(KvmIrqRouting.size + capacity * KvmIrqRoutingMsi.size);
    this.#entry = new KvmIrqRoutingMsi(this.#block.view);
  }

  clear(): void {
    this.#count = 0;
  }

  add(gsi: number, addressLow: number, addressHigh: number, data: number): void {
    const entry = this.#entry;
    entry.at = KvmIrqRouting.size + this.#count++ * KvmIrqRoutingMsi.size;
    entry.gsi = gsi;
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.flags = 0;
    entry.address_lo = addressLow;
    entry.address_hi = addressHigh;
    entry.data = data;
  }

  apply(vm: number): void {
    this.#block.view.setUint32(0, this.#count, true);
    ioctl(vm, KVM_SET_GSI_ROUTING, this.#block);
  }
}

/** Lets an eventfd raise a GSI, or no longer. */
export function setIrqfd(vm: number, fd: number, gsi: number, assign: boolean): void {
  const block = allocate(KvmIrqfd);
  block.fields.fd = fd;
  block.fields.gsi = gsi;
  block.fields.flags = assign ? 0 : KVM_IRQFD_FLAG_DEASSIGN;
  ioctl(vm, KVM_IRQFD, block);
}

/**
 * Lets a guest's write of `length` bytes at an address, of `match` alone if it is given, signal an eventfd in place of
 * an exit, or no longer. False when KVM refuses: another eventfd has that.
 */
export function setIoeventfd(
  vm: number,
  fd: number,
  address: number,
  length: number,
  assign: boolean,
  match?: number,
): boolean {
  const block = allocate(KvmIoeventfd);
  block.fields.addr = address;
  block.fields.len = length;
  block.fields.fd = fd;
  block.fields.flags = assign ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN;
  if (match !== undefined) {
    block.fields.datamatch = BigInt(match);
    block.fields.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
  }
  return libc.ioctl(vm, KVM_IOEVENTFD.code, block.address) === 0;
}

/** What came of entering the guest. */
export const Entered = { exit: 0, interrupted: 1, fault: 2 } as const;

/**
 * Enters the guest: 0 is an exit; 1 a return for a signal (an outcome, not an error); 2 says that the guest touched
 * memory of its own that the host has nothing behind: its file was cut short, or its disk is full.
 */
export function enterGuest(vcpu: number): number {
  if (libc.ioctl(vcpu, KVM_RUN.code, 0) === 0) return Entered.exit;
  const error = errno();
  if (error === Errno.EINTR || error === Errno.EAGAIN) return Entered.interrupted;
  if (error === Errno.EFAULT) return Entered.fault;
  throw new SystemError("ioctl(KVM_RUN)", error);
}

/** The VM's clock (kvmclock) in ns, for a VM that stands still; undefined where this KVM does not tell it. */
export function readClock(vm: number): bigint | undefined {
  const data = allocate(KvmClockData);
  if (libc.ioctl(vm, KVM_GET_CLOCK.code, data.address) < 0) return undefined;
  return data.fields.clock;
}

/** Sets the VM's clock, and tells each vCPU's guest that it stood still, so that its watchdogs do not bark. */
export function continueClock(vm: number, vcpus: readonly number[], clock: bigint): void {
  const data = allocate(KvmClockData);
  data.fields.clock = clock;
  libc.ioctl(vm, KVM_SET_CLOCK.code, data.address);
  // refused for a guest that does not use this clock
  for (const vcpu of vcpus) libc.ioctl(vcpu, KVM_KVMCLOCK_CTRL.code, 0);
}
