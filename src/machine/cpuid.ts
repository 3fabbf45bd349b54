/**
 * What CPUID tells each vCPU: KVM's supported leaves, less what this machine does not do, plus who the vCPU is and how
 * the processors are laid out. Intel SDM volume 2A "CPUID"; AMD APM volume 3 appendix E; KVM's leaves from asm/kvm_para.h.
 */
import type { CpuidTable } from "../ffi/kvm.ts";
import { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } from "../ffi/kvm-abi.ts";

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

export interface CpuidOptions {
  readonly topology: Topology;
  /** KVM_CAP_TSC_DEADLINE_TIMER. */
  readonly tscDeadline: boolean;
  /** At most this many physical address bits; undefined leaves KVM's figure. */
  readonly maxPhysBits?: number | undefined;
}

// Leaf 1
const ecx1Monitor = 1 << 3;
const ecx1TscDeadline = 1 << 24;
const ecx1Hypervisor = 1 << 31;
const edx1Htt = 1 << 28;
// Leaf 7 subleaf 0
const ebx7Sgx = 1 << 2;
const ecx7SgxLaunch = 1 << 30;
// Leaf 6: what is left of thermal and power management is the always-running APIC timer
const eax6Arat = 1 << 2;
const levelType = { invalid: 0, smt: 1, core: 2, die: 5 } as const;

/** Leaves that this function writes anew, each for every vCPU. */
const topologyLeaves = [0xb, 0x1f];
/** Monitor/mwait, the PMU, SGX, processor trace: nothing behind them here. */
const clearedLeaves = [0x3, 0x5, 0xa, 0x12, 0x14, 0x19, 0x1c];

/** The table of vCPU `index`, from KVM's supported leaves. */
export function cpuidFor(supported: CpuidTable, index: number, options: CpuidOptions): CpuidTable {
  const table = supported.copy(16);
  const id = apicId(index, options.topology);
  let kept = 0;
  let maxLeaf = 0;
  for (let i = 0; i < table.length; i++) {
    const entry = table.entry(i);
    if (topologyLeaves.includes(entry.function)) continue;
    const to = table.entry(kept++);
    if (kept - 1 !== i) copyEntry(entry, to);
    if (to.function === 0) maxLeaf = to.eax;
    adjust(to, id, options);
  }
  table.length = kept;
  for (const leaf of topologyLeaves) if (leaf <= maxLeaf) addTopology(table, leaf, id, options);
  return table;
}

type Entry = ReturnType<CpuidTable["entry"]>;

function copyEntry(from: Entry, to: Entry): void {
  for (const name of ["function", "index", "flags", "eax", "ebx", "ecx", "edx"] as const) {
    to[name] = from[name];
  }
}

function adjust(entry: Entry, id: number, options: CpuidOptions): void {
  const { topology } = options;
  const perPackage = topology.threads * topology.cores * topology.dies;
  const shifts = apicIdShifts(topology);
  const leaf = entry.function;
  if (leaf === 1) {
    entry.ebx = ((entry.ebx & 0xffff) | ((1 << shifts.die) << 16) | (id << 24)) >>> 0;
    let ecx = (entry.ecx & ~(ecx1Monitor | ecx1TscDeadline)) | ecx1Hypervisor;
    if (options.tscDeadline) ecx |= ecx1TscDeadline;
    entry.ecx = ecx >>> 0;
    entry.edx = (perPackage > 1 ? entry.edx | edx1Htt : entry.edx & ~edx1Htt) >>> 0;
  } else if (leaf === 4 && (entry.eax & 0x1f) !== 0) {
    // bits 25:14, ids sharing this cache less one; bits 31:26, core ids in the package less one
    const level = (entry.eax >> 5) & 7;
    const sharing = level < 3 ? 1 << shifts.thread : 1 << shifts.die;
    const cores = Math.min(64, 1 << (shifts.die - shifts.thread));
    entry.eax = ((entry.eax & 0x3fff) | ((sharing - 1) << 14) | ((cores - 1) << 26)) >>> 0;
  } else if (leaf === 6) {
    entry.eax &= eax6Arat;
    entry.ebx = entry.ecx = entry.edx = 0;
  } else if (leaf === 7 && entry.index === 0) {
    entry.ebx = (entry.ebx & ~ebx7Sgx) >>> 0;
    entry.ecx = (entry.ecx & ~ecx7SgxLaunch) >>> 0;
  } else if (clearedLeaves.includes(leaf)) {
    entry.eax = entry.ebx = entry.ecx = entry.edx = 0;
  } else if (leaf === 0x8000_0008) {
    adjustAddressSizes(entry, perPackage, shifts.die, options.maxPhysBits);
  } else if (leaf === 0x8000_001e) {
    // AMD: extended APIC id; threads per core less one and core id; node id
    entry.eax = id;
    entry.ebx = (((topology.threads - 1) << 8) | (id >> shifts.thread)) >>> 0;
    entry.ecx = id >> shifts.die;
  }
}

function adjustAddressSizes(entry: Entry, threads: number, idBits: number, most?: number): void {
  const bits = entry.eax & 0xff;
  if (most !== undefined && most < bits) entry.eax = ((entry.eax & ~0xff) | most) >>> 0;
  entry.ecx = ((entry.ecx & ~0xf0ff) | (idBits << 12) | (Math.min(threads, 256) - 1)) >>> 0;
}

/** Leaves 0xB and 0x1F: one subleaf a level, and one that ends the list. */
function addTopology(table: CpuidTable, leaf: number, id: number, options: CpuidOptions): void {
  const { topology } = options;
  const shifts = apicIdShifts(topology);
  const perCore = topology.threads;
  const perDie = perCore * topology.cores;
  const perPackage = perDie * topology.dies;
  const levels: [shift: number, processors: number, type: number][] = [
    [shifts.thread, perCore, levelType.smt],
    leaf === 0x1f && topology.dies > 1
      ? [shifts.core, perDie, levelType.core]
      : [shifts.die, perPackage, levelType.core],
  ];
  if (leaf === 0x1f && topology.dies > 1) levels.push([shifts.die, perPackage, levelType.die]);
  levels.push([0, 0, levelType.invalid]);
  for (const [index, [shift, processors, type]] of levels.entries()) {
    const at = table.length;
    table.length = at + 1;
    const entry = table.entry(at);
    entry.function = leaf;
    entry.index = index;
    entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    entry.eax = shift;
    entry.ebx = processors;
    entry.ecx = index | (type << 8);
    entry.edx = id;
  }
}
