import { expect, test } from "bun:test";
import { name } from "../../../src/firmware/acpi/aml.ts";
import * as res from "../../../src/firmware/acpi/resources.ts";
import { compile } from "./acpica.ts";

// Bytes by hand, from the tables of ACPI 6.5 section 6.4.
test.each<[string, Uint8Array, string]>([
  ["I/O ports", res.io({ start: 0x3f8, length: 8 }), "4701f803f8030108"],
  ["IRQ 3 and 12", res.irqNoFlags(3, 12), "220810"],
  ["edge interrupt", res.interrupt([4]), "890600030104000000"],
  [
    "level interrupt, low, shared",
    res.interrupt([16], { level: true, low: true, shared: true }),
    "8906000d0110000000",
  ],
  ["two waking interrupts", res.interrupt([1, 2], { wake: true }), "890a0013020100000002000000"],
  [
    "memory",
    res.memory32Fixed({ start: 0xe800_0000, length: 0x1000_0000 }),
    "86090001000000e800000010",
  ],
  [
    "read-only memory",
    res.memory32Fixed({ start: 0, length: 1 }, false),
    "860900000000000001000000",
  ],
  ["no resources", res.resources(), "11050a027900"],
])("%s", (_, term, bytes) => {
  expect(term.toHex()).toBe(bytes);
});

const [low, high] = [
  { start: 0xc000_0000, length: 0x2800_0000 },
  { start: 0x1000_0000_0000, length: 0x40_0000_0000 },
];

const producer = "ResourceProducer, PosDecode, MinFixed, MaxFixed";
const consumer = "ResourceConsumer, PosDecode, MinFixed, MaxFixed";
const uncached = "NonCacheable, ReadWrite";
const prefetched = "Prefetchable, ReadWrite";
// Granularity, minimum, maximum, translation, length.
const lowRange = "0, 0xC0000000, 0xE7FFFFFF, 0, 0x28000000";
const highRange = "0, 0x100000000000, 0x103FFFFFFFFF, 0, 0x4000000000";
const ports = "0, 0xD00, 0xFFFF, 0, 0xF300";

// Our descriptor, and the source that iasl has to make the same bytes of.
test.each<[string, Uint8Array]>([
  ["IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)", res.io({ start: 0xcf8, length: 8 })],
  ["IRQNoFlags () {8}", res.irqNoFlags(8)],
  ["Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) {4}", res.interrupt([4])],
  [
    "Interrupt (ResourceConsumer, Level, ActiveLow, Shared) {16, 17}",
    res.interrupt([16, 17], { level: true, low: true, shared: true }),
  ],
  [
    "Interrupt (ResourceConsumer, Edge, ActiveHigh, ExclusiveAndWake) {9}",
    res.interrupt([9], { wake: true }),
  ],
  [
    "Memory32Fixed (ReadWrite, 0xFEC00000, 0x1000)",
    res.memory32Fixed({ start: 0xfec0_0000, length: 0x1000 }),
  ],
  [
    "Memory32Fixed (ReadOnly, 0xFEC00000, 0x1000)",
    res.memory32Fixed({ start: 0xfec0_0000, length: 0x1000 }, false),
  ],
  [
    "WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 255, 0, 256)",
    res.wordBusNumber({ start: 0, length: 256 }),
  ],
  [
    `WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, ${ports})`,
    res.wordIo({ start: 0xd00, length: 0xf300 }),
  ],
  [`DWordMemory (${producer}, ${uncached}, ${lowRange})`, res.dwordMemory(low)],
  [
    `DWordMemory (${consumer}, ${prefetched}, ${lowRange})`,
    res.dwordMemory(low, { consumer: true, prefetchable: true }),
  ],
  [
    `QWordMemory (${producer}, ${prefetched}, ${highRange})`,
    res.qwordMemory(high, { prefetchable: true }),
  ],
  [
    `QWordMemory (${consumer}, ${uncached}, ${highRange})`,
    res.qwordMemory(high, { consumer: true }),
  ],
])("%s", (source, descriptor) => {
  const theirs = compile(`Name (RES, ResourceTemplate () { ${source} })`);

  expect(name("RES", res.resources(descriptor)).toHex()).toBe(theirs.toHex());
});

test.each([
  ["more than 255 ports", () => res.io({ start: 0, length: 256 })],
  ["a port beyond 16 bits", () => res.io({ start: 0x1_0000, length: 1 })],
  ["32-bit memory above 4 GiB", () => res.memory32Fixed({ start: 2 ** 32, length: 1 })],
  ["a 32-bit window across 4 GiB", () => res.dwordMemory({ start: 0xffff_f000, length: 0x2000 })],
  ["an empty window", () => res.qwordMemory({ start: 0, length: 0 })],
])("%s are refused", (_, build) => {
  expect(build).toThrow(RangeError);
});
