import { expect, test } from "bun:test";
import fc from "fast-check";
import * as aml from "../../../src/firmware/acpi/aml.ts";
import { compile } from "./acpica.ts";

const hex = (term: Uint8Array) => term.toHex();

// Encodings by hand, from ACPI 6.5 section 20.2 (opcodes: section 20.3).
test.each<[string, Uint8Array, string]>([
  ["Zero", aml.integer(0), "00"],
  ["One", aml.integer(1), "01"],
  ["smallest byte", aml.integer(2), "0a02"],
  ["largest byte", aml.integer(0xff), "0aff"],
  ["smallest word", aml.integer(0x100), "0b0001"],
  ["largest word", aml.integer(0xffff), "0bffff"],
  ["smallest dword", aml.integer(0x1_0000), "0c00000100"],
  ["largest dword", aml.integer(0xffff_ffff), "0cffffffff"],
  ["smallest qword", aml.integer(0x1_0000_0000), "0e0000000001000000"],
  ["largest number", aml.integer(Number.MAX_SAFE_INTEGER), "0effffffffffff1f00"],
  ["largest qword", aml.integer(0xffff_ffff_ffff_fffen), "0efeffffffffffffff"],
  ["Ones", aml.integer(0xffff_ffff_ffff_ffffn), "ff"],
  ["string", aml.text("ab"), "0d616200"],
  ["empty string", aml.text(""), "0d00"],
  ["buffer", aml.buffer(Uint8Array.of(1, 2)), "11050a020102"],
  ["buffer with room", aml.buffer(Uint8Array.of(1), 16), "11040a1001"],
  ["empty buffer", aml.buffer(new Uint8Array()), "110200"],
  ["package", aml.list(0, 5, aml.text("A")), "120803000a050d4100"],
  ["PNP0A03 (section 19.3.4)", aml.eisaId("PNP0A03"), "0c41d00a03"],
  ["PNP0501", aml.eisaId("PNP0501"), "0c41d00501"],
  [
    "UUID (section 19.6.142)",
    aml.uuid("aabbccdd-eeff-gghh-iijj-kkllmmnnoopp".replace(/[g-p]/g, "1")),
    "11130a10ddccbbaaffee11111111111111111111",
  ],
  ["name segment, padded", aml.path("A"), "415f5f5f"],
  ["root", aml.path("\\"), "5c00"],
  ["parent", aml.path("^"), "5e00"],
  ["absolute", aml.path("\\_SB"), "5c5f53425f"],
  ["grandparent", aml.path("^^AB12"), "5e5e41423132"],
  ["two segments", aml.path("\\_SB.PCI0"), "5c2e5f53425f50434930"],
  ["three segments", aml.path("A.B.C"), "2f03415f5f5f425f5f5f435f5f5f"],
  ["Name", aml.name("_UID", 7), "085f5549440a07"],
  ["Scope", aml.scope("\\_SB"), "10065c5f53425f"],
  ["Device", aml.device("COM1", aml.name("_UID", 0)), "5b820b434f4d31085f55494400"],
  ["Method", aml.method("_ON", { args: 2, serialized: true }), "14065f4f4e5f0a"],
  ["External", aml.external("FOO", 8, 3), "15464f4f5f0803"],
  ["Mutex", aml.mutex("LCK", 3), "5b014c434b5f03"],
  ["OperationRegion", aml.operationRegion("R", 1, 0x600, 4), "5b80525f5f5f010b00060a04"],
  [
    "Field",
    aml.field(
      "R",
      { access: aml.FieldAccess.dword, lock: true, update: aml.FieldUpdate.zeros },
      { name: "F1", bits: 1 },
      { bits: 63 },
      { name: "F2", bits: 64 },
    ),
    "5b8113525f5f5f5346315f5f01003f46325f5f4004",
  ],
])("%s", (_, term, bytes) => {
  expect(hex(term)).toBe(bytes);
});

// Section 20.2.4: the length counts its own bytes. A scope's name is 4 bytes here; the rest are
// NoOps.
test.each<[number, string]>([
  [0x3f - 5, "3f"],
  [0x40 - 5, "4104"], // 0x40 does not fit six bits, so there are two bytes of length
  [0xfff - 6, "4fff"],
  [0x1000 - 6, "810001"], // 0x1001 with its third byte
  [0xf_ffff - 7, "8fffff"],
  [0x10_0000 - 7, "c1000001"],
])("the length of a scope with %d bytes in it", (inside, length) => {
  const scope = aml.scope("ABCD", new Uint8Array(inside).fill(0xa3));

  expect(hex(scope.subarray(0, 1 + length.length / 2 + 4))).toBe(`10${length}41424344`);
  expect(scope.length).toBe(1 + length.length / 2 + 4 + inside);
});

test("a package of 256 elements is a VarPackage", () => {
  const many = aml.list(...new Array<number>(256).fill(0));

  expect(hex(many.subarray(0, 6))).toBe("1345100b0001");
  expect(many.length).toBe(1 + 2 + 3 + 256);
});

test.each<[string, () => unknown]>([
  ["a lower-case name", () => aml.path("com1")],
  ["a name of five letters", () => aml.path("ABCDE")],
  ["a name that starts with a digit", () => aml.path("1ABC")],
  ["an empty segment", () => aml.path("A..B")],
  ["a negative integer", () => aml.integer(-1)],
  ["a fraction", () => aml.integer(0.5)],
  ["a number beyond 2^53", () => aml.integer(2 ** 53)],
  ["an integer beyond 64 bits", () => aml.integer(2n ** 64n)],
  ["a string with NUL", () => aml.text("a\0")],
  ["a string that is not ASCII", () => aml.text("ä")],
  ["an EISA id of six characters", () => aml.eisaId("PNP050")],
  ["a UUID without dashes", () => aml.uuid("33db4d5b1ff7401c96577441c03dd766")],
  ["a method of eight arguments", () => aml.method("M", { args: 8 })],
  ["a buffer smaller than its content", () => aml.buffer(Uint8Array.of(1, 2), 1)],
  ["a value wider than its field", () => aml.littleEndian(0x100, 1)],
])("%s is refused", (_, build) => {
  expect(build).toThrow(RangeError);
});

test("every integer decodes to itself, and is as short as it can be", () => {
  const lengths: Record<number, number> = { 10: 1, 11: 2, 12: 4, 14: 8 };
  fc.assert(
    fc.property(fc.bigInt(2n, 2n ** 64n - 2n), (value) => {
      const [prefix = 0, ...digits] = aml.integer(value);
      const decoded = digits.reduceRight((sum, digit) => sum * 256n + BigInt(digit), 0n);
      const needed = Math.ceil(value.toString(16).length / 2);

      expect(decoded).toBe(value);
      expect(digits.length).toBe(lengths[prefix] ?? Number.NaN);
      expect(digits.length).toBe([1, 2, 4, 8].find((size) => size >= needed) ?? Number.NaN);
    }),
  );
});

test("namespace objects are those that iasl makes of the same source", () => {
  const ours = aml.join(
    aml.scope(
      "\\",
      aml.name("NUM", 0x1234_5678_9abc),
      aml.name("STR", aml.text("ACPI0007")),
      aml.name("UUID", aml.uuid("33db4d5b-1ff7-401c-9657-7441c03dd766")),
      aml.name("PKG", aml.list(aml.list(1, 2), aml.text("x"), aml.path("\\NUM"))),
      aml.mutex("MTX", 7),
      aml.device("DEV0", aml.name("_HID", aml.eisaId("PNP0C02")), aml.name("_UID", 300)),
      aml.operationRegion("MEM", aml.RegionSpace.systemMemory, 0xfeb0_0000, 0x1000),
      aml.field(
        "MEM",
        { access: aml.FieldAccess.any },
        { name: "LOW", bits: 32 },
        { bits: 5000 },
        { name: "BIT", bits: 1 },
      ),
      aml.method("MTHD", { args: 7, serialized: true }),
    ),
  );

  const theirs = compile(`Scope (\\) {
    Name (NUM, 0x123456789ABC)
    Name (STR, "ACPI0007")
    Name (UUID, ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766"))
    Name (PKG, Package () { Package () { 1, 2 }, "x", \\NUM })
    Mutex (MTX, 7)
    Device (DEV0) { Name (_HID, EisaId ("PNP0C02")) Name (_UID, 300) }
    OperationRegion (MEM, SystemMemory, 0xFEB00000, 0x1000)
    Field (MEM, AnyAcc, NoLock, Preserve) { LOW, 32, , 5000, BIT, 1 }
    Method (MTHD, 7, Serialized) {}
  }`);

  expect(hex(ours)).toBe(hex(theirs));
});
