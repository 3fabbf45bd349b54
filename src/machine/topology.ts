/** How the processors of a machine are laid out, and the APIC ids that follow from it. */
import { times } from "../bus/times.ts";
import type { BootConfig } from "./config/vm.ts";

type Cpus = BootConfig["cpus"];

/** Threads per core, cores per die, dies per package, packages. */
export interface Topology {
  readonly threads: number;
  readonly cores: number;
  readonly dies: number;
  readonly packages: number;
}

/** Widths in bits of the fields of an APIC id, lowest first. */
export interface ApicIdShifts {
  readonly thread: number;
  readonly core: number;
  readonly die: number;
}

const bitsFor = (count: number): number => Math.ceil(Math.log2(count));

export function apicIdShifts(topology: Topology): ApicIdShifts {
  const thread = bitsFor(topology.threads);
  const core = thread + bitsFor(topology.cores);
  return { thread, core, die: core + bitsFor(topology.dies) };
}

/** The APIC id of vCPU `index`: its place in each level, packed into the fields that the topology asks for. */
export function apicId(index: number, topology: Topology): number {
  const shifts = apicIdShifts(topology);
  const thread = index % topology.threads;
  const core = Math.floor(index / topology.threads) % topology.cores;
  const die = Math.floor(index / (topology.threads * topology.cores)) % topology.dies;
  const pack = Math.floor(index / (topology.threads * topology.cores * topology.dies));
  return thread | (core << shifts.thread) | (die << shifts.core) | (pack << shifts.die);
}

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
