/**
 * KVM's side of a machine: the VM, its memory slots, its split interrupt controller, its vCPUs and their reset state.
 */
import { times } from "../bus/times.ts";
import { ConfigError } from "../exit-codes.ts";
import {
  CpuidTable,
  checkExtension,
  createVcpu,
  createVm,
  enableCap,
  msrIndexList,
  setTssAndIdentityMap,
  vcpuMmapSize,
} from "../ffi/kvm.ts";
import {
  Cap,
  KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
  KVM_X2APIC_API_USE_32BIT_IDS,
} from "../ffi/kvm-abi.ts";
import { SystemError } from "../ffi/libc.ts";
import type { BootConfig } from "./config/vm.ts";
import { apicId, cpuidFor, type Topology } from "./cpuid.ts";
import type { GuestMemory } from "./guest-memory.ts";
import { KvmError } from "./kvm-host.ts";
import { Gsi, MemoryMap } from "./memory-map.ts";
import type { Owned } from "./owned.ts";
import { initialiseProcessor, VcpuSnapshot } from "./vcpu-state.ts";

export interface VirtualMachine {
  readonly fd: number;
  readonly vcpus: readonly number[];
  readonly runPageBytes: number;
  readonly syncRegs: boolean;
  /** Puts every vCPU back to its state at creation. All must stand still. */
  reset(): void;
}

type Cpus = BootConfig["cpus"];

/** The processors' layout: as configured, or one package of single-threaded cores. */
export function topologyOf(cpus: Cpus): Topology {
  const { topology, max_vcpus } = cpus;
  if (!topology) return { threads: 1, cores: max_vcpus, dies: 1, packages: 1 };
  return {
    threads: topology.threads_per_core,
    cores: topology.cores_per_die,
    dies: topology.dies_per_package,
    packages: topology.packages,
  };
}

/** Every vCPU that a machine can have; those present at boot are enabled. */
export function possibleCpus(cpus: Cpus): { apicId: number; enabled: boolean }[] {
  const topology = topologyOf(cpus);
  return times(cpus.max_vcpus, (index) => ({
    apicId: apicId(index, topology),
    enabled: index < cpus.boot_vcpus,
  }));
}

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
  memory.attach(fd);

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
    fd,
    vcpus,
    runPageBytes: vcpuMmapSize(kvm),
    syncRegs: (checkExtension(fd, Cap.KVM_CAP_SYNC_REGS) & 1) !== 0,
    reset() {
      for (const snapshot of snapshots) snapshot.restore();
    },
  };
}
