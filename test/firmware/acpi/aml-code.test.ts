import { expect, test } from "bun:test";
import * as aml from "../../../src/firmware/acpi/aml.ts";
import * as code from "../../../src/firmware/acpi/aml-code.ts";
import { table } from "../../../src/firmware/acpi/table.ts";
import { compile, interpret } from "./acpica.ts";

const { path, text } = aml;
const [a0, a1, l0, l1] = [code.arg(0), code.arg(1), code.local(0), code.local(1)];

// Our term, and the source that iasl has to make the same bytes of, as a statement of a method.
test.each<[string, aml.Term]>([
  ["Store (Zero, Local7)", code.store(0, code.local(7))],
  ["Store (Arg6, Local0)", code.store(code.arg(6), l0)],
  ["Store (\\DAT, Local0)", code.store(path("\\DAT"), l0)],
  ["Add (Arg0, 2, Local0)", code.add(a0, 2, l0)],
  ["Subtract (Arg0, Arg1, Local0)", code.subtract(a0, a1, l0)],
  ["Multiply (Arg0, 0x100, Local0)", code.multiply(a0, 0x100, l0)],
  ["Divide (Arg0, 3, Local0, Local1)", code.divide(a0, 3, l0, l1)],
  ["Divide (Arg0, 3, , Local1)", code.divide(a0, 3, undefined, l1)],
  ["Mod (Arg0, 3, Local0)", code.mod(a0, 3, l0)],
  ["ShiftLeft (One, Arg0, Local0)", code.shiftLeft(1, a0, l0)],
  ["ShiftRight (Arg0, 4, Local0)", code.shiftRight(a0, 4, l0)],
  ["And (Arg0, 0xFF, Local0)", code.and(a0, 0xff, l0)],
  ["Or (Arg0, 8, Arg0)", code.or(a0, 8, a0)],
  ["XOr (Arg0, Arg1, Local0)", code.xor(a0, a1, l0)],
  ["Not (Arg0, Local0)", code.not(a0, l0)],
  ["Increment (Local0)", code.increment(l0)],
  ["Decrement (Local0)", code.decrement(l0)],
  ['Concatenate ("A", Arg0, Local0)', code.concatenate(text("A"), a0, l0)],
  ["ConcatenateResTemplate (Arg0, Arg1, Local0)", code.concatenateResources(a0, a1, l0)],
  ["ToBuffer (Arg0, Local0)", code.toBuffer(a0, l0)],
  ["ToInteger (Arg0, Local0)", code.toInteger(a0, l0)],
  ["Store (SizeOf (Arg0), Local0)", code.store(code.sizeOf(a0), l0)],
  ["Store (RefOf (Local0), Local1)", code.store(code.refOf(l0), l1)],
  ["Store (DerefOf (Index (Arg0, 3)), Local0)", code.store(code.derefOf(code.index(a0, 3)), l0)],
  ["Store (Index (Arg0, One, Local1), Local0)", code.store(code.index(a0, 1, l1), l0)],
  ["Store (CondRefOf (\\DAT, Local0), Local1)", code.store(code.condRefOf(path("\\DAT"), l0), l1)],
  ["CreateByteField (Arg0, 3, FLD)", code.createByteField(a0, 3, "FLD")],
  ["CreateWordField (Arg0, 3, FLD)", code.createWordField(a0, 3, "FLD")],
  ["CreateDWordField (Arg0, Local0, FLD)", code.createDWordField(a0, l0, "FLD")],
  ["CreateQWordField (Arg0, 14, FLD)", code.createQWordField(a0, 14, "FLD")],
  ["CreateField (Arg0, 8, 12, FLD)", code.createField(a0, 8, 12, "FLD")],
  ["CALL (Arg0, 7)", code.call("CALL", a0, 7)],
  ["Notify (DEV0, 0x80)", code.notify(path("DEV0"), 0x80)],
  ["Acquire (LCK, 0xFFFF)", code.acquire("LCK")],
  ["Store (Acquire (LCK, 0x1234), Local0)", code.store(code.acquire("LCK", 0x1234), l0)],
  ["Release (LCK)", code.release("LCK")],
  ["Sleep (200)", code.sleep(200)],
  ["Return (Arg0)", code.give(a0)],
  ["If (LAnd (Arg0, Arg1)) {}", code.when(code.logicalAnd(a0, a1))],
  ["If (LOr (Arg0, 0)) {}", code.when(code.logicalOr(a0, 0))],
  ["If (LNot (Arg0)) {}", code.when(code.logicalNot(a0))],
  ["If (LEqual (Arg0, 1)) {}", code.when(code.equal(a0, 1))],
  ["If (LNotEqual (Arg0, 1)) {}", code.when(code.notEqual(a0, 1))],
  ["If (LGreater (Arg0, 1)) {}", code.when(code.greater(a0, 1))],
  ["If (LGreaterEqual (Arg0, 1)) {}", code.when(code.greaterEqual(a0, 1))],
  ["If (LLess (Arg0, 1)) {}", code.when(code.less(a0, 1))],
  ["If (LLessEqual (Arg0, 1)) {}", code.when(code.lessEqual(a0, 1))],
  [
    "If (Arg0) { Increment (Local0) } Else { Decrement (Local0) }",
    aml.join(code.when(a0, code.increment(l0)), code.otherwise(code.decrement(l0))),
  ],
  [
    "While (Arg0) { If (Arg1) { Break } Continue }",
    code.loop(a0, code.when(a1, code.leave), code.next),
  ],
])("%s", (source, term) => {
  const around = `Name (\\DAT, 0) Mutex (LCK, 0) Device (DEV0) { Name (_HID, "ACPI0004") }
    Method (CALL, 2) {}`;
  const before = [code.store(0, l0), code.store(0, l1)];

  const theirs = compile(
    `${around} Method (TEST, 7, Serialized) { Store (0, Local0) Store (0, Local1) ${source} }`,
  );

  const ours = aml.method("TEST", { args: 7, serialized: true }, ...before, term);
  expect(theirs.toHex()).toEndWith(ours.toHex());
});

test.each([
  ["Local8", () => code.local(8)],
  ["Arg7", () => code.arg(7)],
])("there is no %s", (_, build) => {
  expect(build).toThrow(RangeError);
});

// The shape of a hot-plug controller: registers behind a mutex, a loop over slots, a notification
// for each.
test("ACPICA's interpreter runs a scan over hot-plug registers", async () => {
  const slot = path("SLOT");
  const dsdt = table(
    "DSDT",
    2,
    aml.scope(
      "\\_SB",
      aml.device("CPU0", aml.name("_HID", text("ACPI0007")), aml.name("_UID", 0)),
      aml.operationRegion("REGS", aml.RegionSpace.systemMemory, 0xfeb0_0000, 16),
      aml.field(
        "REGS",
        { access: aml.FieldAccess.dword, update: aml.FieldUpdate.zeros },
        { name: "SLOT", bits: 32 },
        { bits: 32 },
        { name: "SEEN", bits: 32 },
      ),
      aml.mutex("LCK"),
      aml.method(
        "SCAN",
        { args: 1, serialized: true },
        code.acquire("LCK"),
        code.store(0, l0),
        code.store(0, path("SEEN")),
        code.loop(
          code.less(l0, a0),
          code.store(l0, slot),
          code.when(
            code.equal(code.and(slot, 1), 1),
            code.notify(path("CPU0"), 1),
            code.add(path("SEEN"), slot, path("SEEN")),
          ),
          code.increment(l0),
        ),
        code.release("LCK"),
        code.give(path("SEEN")),
      ),
    ),
  );

  const output = await interpret(dsdt, "evaluate \\_SB.SCAN 6");

  expect(output).toContain("[Integer] = 0000000000000009"); // 1 + 3 + 5
  expect(output.match(/Notify[^\n]*CPU0|CPU0[^\n]*Notify/g)?.length).toBe(3);
});
