/**
 * What CPUID tells each vCPU: KVM's supported leaves, less what this machine does not do, plus who the vCPU is and how
 * the processors are laid out. Intel SDM volume 2A "CPUID"; AMD APM volume 3 appendix E; KVM's leaves from
 * asm/kvm_para.h.
 */
import type { CpuidTable } from "../ffi/kvm.ts";
import { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } from "../ffi/kvm-abi.ts";
import { apicId, apicIdShifts, type Topology } from "./topology.ts";

export interface CpuidOptions {
  readonly topology: Topology;
  /** KVM_CAP_TSC_DEADLINE_TIMER. */
  readonly tscDeadline: boolean;
  /** At most this many physical address bits; undefined leaves KVM's figure. */
  readonly maxPhysBits?: number | undefined;
}

// Leaf 1
const ecx1Dtes64 = 1 << 2; // the debug store's 64-bit area
const ecx1Monitor = 1 << 3;
const ecx1Pdcm = 1 << 15; // IA32_PERF_CAPABILITIES
const ecx1TscDeadline = 1 << 24;
const ecx1Hypervisor = 1 << 31;
const edx1Ds = 1 << 21; // debug store
const edx1Htt = 1 << 28;
// Leaf 7 subleaf 0
const ebx7Sgx = 1 << 2;
const ebx7ProcessorTrace = 1 << 25;
const ecx7KeyLocker = 1 << 23;
const ecx7SgxLaunch = 1 << 30;
const edx7ArchLbr = 1 << 19;
// Leaf 7 subleaf 1
const eax71ArchPerfmonExt = 1 << 8;
// Leaf 6: what is left of thermal and power management is the always-running APIC timer
const eax6Arat = 1 << 2;
// Leaf 0x80000001: several processors in a package; performance counters of core, northbridge and L3
const ecx81CmpLegacy = 1 << 1;
/** Leaf 0x8000001e, which every AMD processor with SVM has, tells the guest's topology, whatever the host's is. */
const ecx81Topoext = 1 << 22;
const ecx81PerfCounters = (1 << 23) | (1 << 24) | (1 << 28);
const levelType = { invalid: 0, smt: 1, core: 2, die: 5 } as const;

/** Leaves that this function writes anew, each for every vCPU. */
const topologyLeaves = [0xb, 0x1f];
/**
 * Serial number, monitor/mwait, the PMU (0xA, 0x23, AMD's 0x80000022), SGX, processor trace, key locker, last-branch
 * records, encrypted memory (AMD's 0x8000001F: Linux reads an MSR that is not there when it says SEV): nothing behind
 * them here. AMD's extended topology (0x80000026) is the host's; 0xB tells the guest's.
 */
const clearedLeaves = [
  ...[0x3, 0x5, 0xa, 0x12, 0x14, 0x19, 0x1c, 0x23],
  ...[0x8000_001f, 0x8000_0022, 0x8000_0026],
];

/** The table of vCPU `index`, from KVM's supported leaves. */
export function cpuidFor(supported: CpuidTable, index: number, options: CpuidOptions): CpuidTable {
  const table = supported.copy(16);
  const id = apicId(index, options.topology);
  const amd = isAmd(supported);
  const shifts = apicIdShifts(options.topology);
  let kept = 0;
  let maxLeaf = 0;
  for (let i = 0; i < table.length; i++) {
    const entry = table.entry(i);
    if (topologyLeaves.includes(entry.function)) continue;
    if (kept !== i) table.move(i, kept);
    const to = table.entry(kept++);
    if (to.function === 0) maxLeaf = to.eax;
    adjust(to, id, options, shifts, amd);
  }
  table.length = kept;
  for (const leaf of topologyLeaves) if (leaf <= maxLeaf) addTopology(table, leaf, id, options);
  return table;
}

type Entry = ReturnType<CpuidTable["entry"]>;

function adjust(
  entry: Entry,
  id: number,
  options: CpuidOptions,
  shifts: ReturnType<typeof apicIdShifts>,
  amd: boolean,
): void {
  const { topology } = options;
  const perPackage = topology.threads * topology.cores * topology.dies;
  const leaf = entry.function;
  if (leaf === 1) {
    // bits 23:16, ids of the package's processors: 255 stands for 256 too, being rounded up to a power of two
    const ids = Math.min(0xff, 1 << shifts.die);
    entry.ebx = ((entry.ebx & 0xffff) | (ids << 16) | (id << 24)) >>> 0;
    const missing = ecx1Dtes64 | ecx1Monitor | ecx1Pdcm | ecx1TscDeadline;
    const present = ecx1Hypervisor | (options.tscDeadline ? ecx1TscDeadline : 0);
    entry.ecx = ((entry.ecx & ~missing) | present) >>> 0;
    const edx = entry.edx & ~(edx1Ds | edx1Htt);
    entry.edx = (perPackage > 1 ? edx | edx1Htt : edx) >>> 0;
  } else if ((leaf === 4 || leaf === 0x8000_001d) && (entry.eax & 0x1f) !== 0) {
    // bits 25:14, ids sharing this cache less one: the core's own, or the die's
    const level = (entry.eax >> 5) & 7;
    const sharing = level < 3 ? 1 << shifts.thread : 1 << shifts.core;
    // bits 31:26, core ids in the package less one; reserved in AMD's leaf
    const cores = leaf === 4 ? Math.min(64, 1 << (shifts.die - shifts.thread)) : 1;
    entry.eax = ((entry.eax & 0x3fff) | ((sharing - 1) << 14) | ((cores - 1) << 26)) >>> 0;
  } else if (leaf === 6) {
    entry.eax &= eax6Arat;
    entry.ebx = entry.ecx = entry.edx = 0;
  } else if (leaf === 7 && entry.index === 0) {
    entry.ebx = (entry.ebx & ~(ebx7Sgx | ebx7ProcessorTrace)) >>> 0;
    entry.ecx = (entry.ecx & ~(ecx7SgxLaunch | ecx7KeyLocker)) >>> 0;
    entry.edx = (entry.edx & ~edx7ArchLbr) >>> 0;
  } else if (leaf === 7 && entry.index === 1) {
    entry.eax = (entry.eax & ~eax71ArchPerfmonExt) >>> 0;
  } else if (clearedLeaves.includes(leaf)) {
    entry.eax = entry.ebx = entry.ecx = entry.edx = 0;
  } else if (leaf === 0x8000_0001) {
    const several = amd && perPackage > 1;
    const ecx = entry.ecx & ~(ecx81PerfCounters | (amd ? ecx81CmpLegacy : 0));
    entry.ecx = (several ? ecx | ecx81CmpLegacy | ecx81Topoext : ecx) >>> 0;
  } else if (leaf === 0x8000_0008) {
    adjustAddressSizes(entry, options.maxPhysBits);
    const threads = (shifts.die << 12) | (perPackage - 1);
    entry.ecx = amd ? ((entry.ecx & ~0xf0ff) | threads) >>> 0 : 0;
  } else if (leaf === 0x8000_001e) {
    // AMD: extended APIC id; threads per core less one and core id; node id: a package is one node
    const core = (id >> shifts.thread) & ((1 << (shifts.die - shifts.thread)) - 1);
    entry.eax = id;
    entry.ebx = ((topology.threads - 1) << 8) | core;
    entry.ecx = (id >> shifts.die) & 0xff;
    entry.edx = 0;
  }
}

/** Bits 7:0 of EAX are the physical address bits, 23:16 those of a guest of this one where they differ. */
function adjustAddressSizes(entry: Entry, most = 0xff): void {
  const physical = Math.min(entry.eax & 0xff, most);
  const nested = Math.min((entry.eax >> 16) & 0xff, most);
  entry.eax = ((entry.eax & ~0xff_00ff) | (nested << 16) | physical) >>> 0;
}

/** Whether leaf 0 says AuthenticAMD or HygonGenuine: their leaves hold more than Intel's of the same number. */
function isAmd(table: CpuidTable): boolean {
  for (let i = 0; i < table.length; i++) {
    const entry = table.entry(i);
    if (entry.function === 0) return entry.ebx === 0x6874_7541 || entry.ebx === 0x6f67_7948;
  }
  return false;
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
