/**
 * CPUID for several topologies against tables written by hand from the Intel SDM volume 2A (CPUID, table 3-8; leaves 4,
 * 0xB, 0x1F) and volume 3A section 9.9 (APIC ids), and the AMD APM volume 3 appendix E.
 */
import { describe, expect, test } from "bun:test";
import { CpuidTable } from "../../src/ffi/kvm.ts";
import { type CpuidOptions, cpuidFor } from "../../src/machine/cpuid.ts";
import { apicId } from "../../src/machine/topology.ts";

type Registers = [eax: number, ebx: number, ecx: number, edx: number];
const ones: Registers = [0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff];

/** Leaf and subleaf, and the registers as KVM offers them. */
type Offer = [leaf: number, subleaf: number, registers: Registers];
const [genuine, authentic] = [0x756e_6547, 0x6874_7541]; // "Genu", "Auth"

/** Caches as leaf 4 and 0x8000001D describe them, with the host's sharing: type, level, and bits 25:14 and 31:26 set. */
const cache = (type: number, level: number) => (0xffff_c000 | (level << 5) | type) >>> 0;

function offers(vendor: number): Offer[] {
  return [
    [0, 0, [0x20, vendor, 0, 0]],
    [1, 0, ones],
    [3, 0, ones],
    [4, 0, [cache(1, 1), 0x1c0_003f, 0x3f, 0]],
    [4, 1, [cache(3, 3), 0x3c0_003f, 0xfff, 4]],
    [4, 2, [0, 0, 0, 0]],
    [5, 0, ones],
    [6, 0, ones],
    [7, 0, [1, ones[1], ones[2], ones[3]]],
    [7, 1, ones],
    [0xa, 0, ones],
    [0xb, 0, [9, 9, 9, 99]], // the host's topology
    [0xb, 1, [9, 9, 9, 99]],
    [0xd, 0, [7, 0x340, 0x340, 0]],
    [0x12, 0, ones],
    [0x14, 0, ones],
    [0x19, 0, ones],
    [0x1c, 0, ones],
    [0x1f, 0, [9, 9, 9, 99]],
    [0x23, 0, ones],
    [0x4000_0000, 0, [0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d]],
    [0x4000_0001, 0, [0x0100_7efb, 0, 0, 0]],
    [0x8000_0001, 0, ones],
    [0x8000_0008, 0, [0x0030_3030, 0x1000, 0x0003_0f00, 0]],
    [0x8000_001d, 0, [cache(1, 1), 0x1c0_003f, 0x3f, 0]],
    [0x8000_001d, 1, [cache(3, 3), 0x3c0_003f, 0xfff, 1]],
    [0x8000_001e, 0, ones],
    [0x8000_001f, 0, [0x1_0002, 0x33, 0x1fd, 1]], // SEV, as KVM offers it on a host that has it
    [0x8000_0022, 0, ones],
    [0x8000_0026, 0, ones],
  ];
}

function supported(vendor = genuine): CpuidTable {
  const rows = offers(vendor);
  const table = new CpuidTable(rows.length);
  table.length = rows.length;
  for (const [i, [leaf, subleaf, [eax, ebx, ecx, edx]]] of rows.entries()) {
    Object.assign(table.entry(i), { function: leaf, index: subleaf, eax, ebx, ecx, edx });
  }
  return table;
}

/** What vCPU `index` reads. */
function reads(index: number, options: CpuidOptions, vendor = genuine) {
  const table = cpuidFor(supported(vendor), index, options);
  const rows = Array.from({ length: table.length }, (_, i) => table.entry(i));
  return (leaf: number, subleaf = 0): Registers => {
    const found = rows.filter((row) => row.function === leaf && row.index === subleaf);
    if (found.length !== 1) throw new Error(`${found.length} rows for leaf ${leaf}.${subleaf}`);
    const { eax, ebx, ecx, edx } = found[0]!;
    return [eax, ebx, ecx, edx];
  };
}

function topology(text: string) {
  const [threads, cores, dies, packages] = text.split(":").map(Number) as Registers;
  return { threads, cores, dies, packages };
}
const options = (text: string): CpuidOptions => ({ topology: topology(text), tscDeadline: true });

const [smt, core, die] = [0x100, 0x200, 0x500]; // level types 1, 2 and 5 in ECX[15:8]

interface Expected {
  /** x2APIC ids of the vCPUs in order. */
  ids: number[];
  /** Leaf 1: EBX[23:16], and EDX[28]. */
  addressable: number;
  htt: 0 | 1;
  /** Leaf 4: EAX[25:14] of an L1 and of an L3 cache, EAX[31:26]. */
  caches: [l1: number, l3: number, cores: number];
  /** EAX and EBX of the SMT and core levels; ECX apart from the subleaf's number. */
  leafB: [number, number, number][];
  leaf1F: [number, number, number][];
  /** 0x80000008 ECX[7:0] and ECX[15:12]. */
  processors: [count: number, bits: number];
  /** 0x8000001E: EBX[15:8]; for each vCPU EBX[7:0] and ECX[7:0]. */
  threadsLessOne: number;
  coreIds: number[];
  nodeIds: number[];
}

const zeros = (count: number) => Array<number>(count).fill(0);
const upTo = (count: number) => Array.from({ length: count }, (_, i) => i);

const machines: Record<string, Expected> = {
  "1:1:1:1": {
    ids: [0],
    addressable: 1,
    htt: 0,
    caches: [0, 0, 0],
    leafB: [
      [0, 1, smt],
      [0, 1, core],
    ],
    leaf1F: [
      [0, 1, smt],
      [0, 1, core],
    ],
    processors: [0, 0],
    threadsLessOne: 0,
    coreIds: [0],
    nodeIds: [0],
  },
  "1:4:1:1": {
    ids: [0, 1, 2, 3],
    addressable: 4,
    htt: 1,
    caches: [0, 3, 3],
    leafB: [
      [0, 1, smt],
      [2, 4, core],
    ],
    leaf1F: [
      [0, 1, smt],
      [2, 4, core],
    ],
    processors: [3, 2],
    threadsLessOne: 0,
    coreIds: [0, 1, 2, 3],
    nodeIds: zeros(4),
  },
  "2:2:1:1": {
    ids: [0, 1, 2, 3],
    addressable: 4,
    htt: 1,
    caches: [1, 3, 1],
    leafB: [
      [1, 2, smt],
      [2, 4, core],
    ],
    leaf1F: [
      [1, 2, smt],
      [2, 4, core],
    ],
    processors: [3, 2],
    threadsLessOne: 1,
    coreIds: [0, 0, 1, 1],
    nodeIds: zeros(4),
  },
  "2:4:2:1": {
    ids: upTo(16),
    addressable: 16,
    htt: 1,
    caches: [1, 7, 7], // a last-level cache is a die's
    leafB: [
      [1, 2, smt],
      [4, 16, core],
    ],
    leaf1F: [
      [1, 2, smt],
      [3, 8, core],
      [4, 16, die],
    ],
    processors: [15, 4],
    threadsLessOne: 1,
    coreIds: upTo(16).map((id) => id >> 1),
    nodeIds: zeros(16),
  },
  "1:3:1:2": {
    ids: [0, 1, 2, 4, 5, 6], // three cores take two bits, so id 3 is nobody's
    addressable: 4,
    htt: 1,
    caches: [0, 3, 3],
    leafB: [
      [0, 1, smt],
      [2, 3, core],
    ],
    leaf1F: [
      [0, 1, smt],
      [2, 3, core],
    ],
    processors: [2, 2],
    threadsLessOne: 0,
    coreIds: [0, 1, 2, 0, 1, 2],
    nodeIds: [0, 0, 0, 1, 1, 1],
  },
};

describe.each(Object.entries(machines))("topology %s", (text, expected) => {
  const every = expected.ids.map((id, index) => ({ index, id, read: reads(index, options(text)) }));

  test("leaf 1: initial APIC id, addressable ids, HTT", () => {
    for (const { id, read } of every) {
      const [, ebx, , edx] = read(1);
      expect(ebx >>> 24).toBe(id);
      expect((ebx >>> 16) & 0xff).toBe(expected.addressable);
      expect(ebx & 0xffff).toBe(0xffff); // cache line size and brand are the host's
      expect((edx >>> 28) & 1).toBe(expected.htt);
    }
  });

  test("leaf 4 and AMD's 0x8000001D: who shares a cache", () => {
    const [l1, l3, cores] = expected.caches;
    for (const { index, read } of every) {
      expect(read(4, 0)).toEqual([((cores << 26) | (l1 << 14) | 0x21) >>> 0, 0x1c0_003f, 0x3f, 0]);
      expect(read(4, 1)[0]).toBe(((cores << 26) | (l3 << 14) | 0x63) >>> 0);
      expect(read(4, 2)).toEqual([0, 0, 0, 0]);
      const amd = reads(index, options(text), authentic);
      expect(amd(0x8000_001d, 0)[0]).toBe((l1 << 14) | 0x21);
      expect(amd(0x8000_001d, 1)).toEqual([(l3 << 14) | 0x63, 0x3c0_003f, 0xfff, 1]);
    }
  });

  test.each([
    ["0xB", 0xb, expected.leafB],
    ["0x1F", 0x1f, expected.leaf1F],
  ] as const)("leaf %s: the levels, and an empty one at the end", (_, leaf, levels) => {
    for (const { id, read } of every) {
      for (const [subleaf, [eax, ebx, ecx]] of levels.entries()) {
        expect(read(leaf, subleaf)).toEqual([eax, ebx, ecx | subleaf, id]);
      }
      expect(read(leaf, levels.length)).toEqual([0, 0, levels.length, id]);
      expect(() => read(leaf, levels.length + 1)).toThrow("0 rows");
    }
  });

  test("AMD's 0x80000008 and 0x8000001E", () => {
    const [count, bits] = expected.processors;
    for (const { index, id } of every) {
      const read = reads(index, options(text), authentic);
      expect(read(0x8000_0008)[2]).toBe(0x0003_0f00 | (bits << 12) | count);
      expect(read(0x8000_001e)).toEqual([
        id,
        (expected.threadsLessOne << 8) | expected.coreIds[index]!,
        expected.nodeIds[index]!,
        0,
      ]);
    }
  });
});

test("ids of a large package do not run into each other", () => {
  for (const index of [0, 1, 252, 253]) {
    const [, ebx] = reads(index, options("1:254:1:1"))(1);

    expect(ebx >>> 24).toBe(index);
    expect((ebx >>> 16) & 0xff).toBe(255); // 256 ids, which the field cannot hold
  }
});

test("a package of more than 64 cores says 64, the most that leaf 4 can", () => {
  const [eax] = reads(0, options("1:254:1:1"))(4, 1);

  expect(eax >>> 26).toBe(63);
  expect((eax >>> 14) & 0xfff).toBe(255); // all share the cache
});

test("ids beyond 8 bits stay whole where there is room", () => {
  const text = "3:1:1:80"; // 2 bits for a thread: the last package begins at 79 * 4
  const last = 239;
  const read = reads(last, options(text));

  expect(apicId(last, topology(text))).toBe(318);
  expect(read(0xb)[3]).toBe(318);
  expect(read(1)[1] >>> 24).toBe(318 & 0xff);
  expect(read(0x8000_001e)).toEqual([318, 0x200, 79, 0]);
});

const bit = (value: number, number: number) => (value >>> number) & 1;

test("leaf 1 promises a hypervisor and the TSC deadline, and nothing that is not there", () => {
  const [, , ecx, edx] = reads(0, options("1:1:1:1"))(1);

  expect(bit(ecx, 31)).toBe(1);
  expect(bit(ecx, 24)).toBe(1);
  expect(bit(ecx, 3)).toBe(0); // MONITOR
  expect(bit(ecx, 15)).toBe(0); // PDCM: a PMU's capabilities
  expect(bit(ecx, 2)).toBe(0); // DTES64
  expect(bit(edx, 21)).toBe(0); // DS
  expect(bit(ecx, 21)).toBe(1); // x2APIC, KVM's
  const expectedEcx = 0xffff_ffff - 2 ** 2 - 2 ** 3 - 2 ** 15;
  expect(ecx).toBe(expectedEcx);
});

test("without KVM's TSC deadline timer there is none, whatever the leaf says", () => {
  const none = { topology: topology("1:1:1:1"), tscDeadline: false };

  expect(bit(reads(0, none)(1)[2], 24)).toBe(0);
});

test("power, PMU, SGX, SEV, trace and branch records are not there", () => {
  const read = reads(0, options("1:2:1:1"));

  for (const leaf of [3, 5, 0xa, 0x12, 0x14, 0x19, 0x1c, 0x23]) {
    expect(read(leaf)).toEqual([0, 0, 0, 0]);
  }
  for (const leaf of [0x8000_001f, 0x8000_0022, 0x8000_0026]) {
    expect(read(leaf)).toEqual([0, 0, 0, 0]);
  }
  expect(read(6)).toEqual([4, 0, 0, 0]); // ARAT alone
  const [eax, ebx, ecx, edx] = read(7);
  expect(eax).toBe(1); // subleafs
  expect([bit(ebx, 2), bit(ebx, 25)]).toEqual([0, 0]); // SGX, Intel PT
  expect([bit(ecx, 23), bit(ecx, 30)]).toEqual([0, 0]); // key locker, SGX_LC
  expect(bit(edx, 19)).toBe(0); // architectural LBR
  expect(bit(read(7, 1)[0], 8)).toBe(0); // leaf 0x23
  const [, , extended] = read(0x8000_0001);
  expect([23, 24, 28].map((number) => bit(extended, number))).toEqual([0, 0, 0]);
  expect(bit(extended, 22)).toBe(1); // topology extensions
});

test("KVM's own leaves and the extended state stay as they are", () => {
  const read = reads(0, options("1:2:1:1"));

  expect(read(0x4000_0000)).toEqual([0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d]);
  expect(read(0x4000_0001)).toEqual([0x0100_7efb, 0, 0, 0]);
  expect(read(0xd)).toEqual([7, 0x340, 0x340, 0]);
});

test("physical address bits are at most those asked for, a nested guest's too", () => {
  const sized = (maxPhysBits?: number) =>
    reads(0, { ...options("1:1:1:1"), maxPhysBits })(0x8000_0008);

  expect(sized()).toEqual([0x0030_3030, 0x1000, 0, 0]); // ECX is reserved on Intel
  expect(sized(52)[0]).toBe(0x0030_3030);
  expect(sized(40)[0]).toBe(0x0028_3028);
});

test("a processor without leaf 0x1F gets none", () => {
  const old = supported();
  old.entry(0).eax = 0x16;
  const table = cpuidFor(old, 0, options("2:4:2:1"));
  const leaves = Array.from({ length: table.length }, (_, i) => table.entry(i).function);

  expect(leaves).toContain(0xb);
  expect(leaves).not.toContain(0x1f);
});

test("the table that KVM gave is not touched", () => {
  const table = supported();
  const rows = () =>
    Array.from({ length: table.length }, (_, i) => {
      const { function: leaf, index, eax, ebx, ecx, edx } = table.entry(i);
      return [leaf, index, [eax, ebx, ecx, edx]];
    });
  cpuidFor(table, 3, options("1:4:1:1"));

  expect(rows()).toEqual(offers(genuine));
});

test("AMD: several processors in a package are told as such, on a host of one too", () => {
  const bits = (text: string, vendor?: typeof authentic) => {
    const ecx = reads(0, options(text), vendor)(0x8000_0001)[2];
    return [bit(ecx, 1), bit(ecx, 22)]; // APM volume 3 appendix E: CmpLegacy, TopologyExtensions
  };

  expect(bits("2:2:1:1", authentic)).toEqual([1, 1]);
  expect(bits("1:1:1:2", authentic)[0]).toBe(0);
});
