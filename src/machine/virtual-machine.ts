/**
 * KVM's side of a machine: the VM, its memory slots, its split interrupt controller, its vCPUs and their reset state.
 */
import { ConfigError } from "../exit-codes.ts";
import {
  CpuidTable,
  checkExtension,
  continueClock,
  createVcpu,
  createVm,
  enableCap,
  msrIndexList,
  readClock,
  setMemorySlot,
  setTssAndIdentityMap,
  signalMsi,
  vcpuMmapSize,
} from "../ffi/kvm.ts";
import {
  Cap,
  KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
  KVM_X2APIC_API_USE_32BIT_IDS,
} from "../ffi/kvm-abi.ts";
import { SystemError } from "../ffi/libc.ts";
import type { BootConfig } from "./config/vm.ts";
import { cpuidFor } from "./cpuid.ts";
import type { GuestMemory } from "./guest-memory.ts";
import { KvmError, openHostKvm } from "./kvm-host.ts";
import { Gsi, MemoryMap } from "./memory-map.ts";
import type { Owned } from "./owned.ts";
import type { RamRegion } from "./ram-view.ts";
import { apicId, topologyOf } from "./topology.ts";
import { initialiseProcessor, VcpuSnapshot } from "./vcpu-state.ts";
import type { VmNumbers } from "./vm-arrival.ts";

const msiToAll = 0xfeef_f000;
const deliverNmi = 0x400;

export interface VirtualMachine {
  readonly numbers: VmNumbers;
  /** Makes the regions memory slots `slot`, `slot + 1`, …. */
  addMemory(slot: number, regions: readonly RamRegion[]): void;
  /** Puts every vCPU back to its state at creation. All must stand still. */
  reset(): void;
  /** What the guest's clock shows; all vCPUs must stand still. Undefined where this KVM does not tell it. */
  readClock(): bigint | undefined;
  /** The guest's clock goes on from there, and its watchdogs are told that it stood still. */
  continueClock(clock: bigint): void;
  /** An MSI of delivery mode NMI to all (SDM volume 3, section 11.11). */
  sendNmi(): void;
}

type Cpus = BootConfig["cpus"];

/** What KVM has none left of, or does not let this process have. */
function fromKvm(create: () => number): number {
  try {
    return create();
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const fix = "free memory, end other machines, or raise this process's limits";
    throw new KvmError(`/dev/kvm: ${error.message}; ${fix}`);
  }
}

/** The same, with a descriptor of its own for /dev/kvm. Throws KvmError, too. */
export const openVirtualMachine = (cpus: Cpus, memory: GuestMemory, owned: Owned): VirtualMachine =>
  createVirtualMachine(owned.fd(openHostKvm()), cpus, memory, owned);

/** Throws ConfigError where this KVM cannot do what is asked; `owned` then has what was made so far. */
export function createVirtualMachine(
  kvm: number,
  cpus: Cpus,
  memory: GuestMemory,
  owned: Owned,
): VirtualMachine {
  const most = checkExtension(kvm, Cap.KVM_CAP_MAX_VCPUS);
  if (cpus.max_vcpus > most) {
    throw new ConfigError(`--cpus: max=${cpus.max_vcpus} is above this host's ${most}; lower it`);
  }
  const fd = owned.fd(fromKvm(() => createVm(kvm)));
  setTssAndIdentityMap(fd, MemoryMap.kvmTss, MemoryMap.kvmIdentityMap);
  enableCap(fd, Cap.KVM_CAP_SPLIT_IRQCHIP, BigInt(Gsi.pins));
  if (checkExtension(fd, Cap.KVM_CAP_X2APIC_API) > 0) {
    const flags = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
    enableCap(fd, Cap.KVM_CAP_X2APIC_API, flags);
  }
  const addMemory = (slot: number, regions: readonly RamRegion[]): void => {
    for (const [index, { start, length, hostAddress }] of regions.entries()) {
      setMemorySlot(fd, slot + index, start, length, hostAddress);
    }
  };
  addMemory(0, memory.regions);

  const topology = topologyOf(cpus);
  const supported = CpuidTable.supported(kvm);
  const options = {
    topology,
    tscDeadline: checkExtension(kvm, Cap.KVM_CAP_TSC_DEADLINE_TIMER) > 0,
    maxPhysBits: cpus.max_phys_bits,
  };
  const msrs = msrIndexList(kvm);
  const vcpus: number[] = [];
  const snapshots: VcpuSnapshot[] = [];
  for (let index = 0; index < cpus.boot_vcpus; index++) {
    const vcpu = owned.fd(fromKvm(() => createVcpu(fd, apicId(index, topology))));
    vcpus.push(vcpu);
    cpuidFor(supported, index, options).apply(vcpu);
    initialiseProcessor(vcpu);
    snapshots.push(new VcpuSnapshot(vcpu, msrs));
  }
  return {
    numbers: {
      vmFd: fd,
      vcpuFds: vcpus,
      runPageBytes: vcpuMmapSize(kvm),
      syncRegs: (checkExtension(fd, Cap.KVM_CAP_SYNC_REGS) & 1) !== 0,
    },
    addMemory,
    reset() {
      for (const snapshot of snapshots) snapshot.restore();
    },
    readClock: () => readClock(fd),
    continueClock: (clock) => continueClock(fd, vcpus, clock),
    sendNmi: () => signalMsi(fd, msiToAll, deliverNmi),
  };
}
