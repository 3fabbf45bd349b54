/**
 * AML, continued: what methods are made of. Expressions and statements of ACPI 6.5 section 20.2.5.3
 * and 20.2.5.4. A target that is left out is the null target: the result is only returned.
 */
import { join, type Operand, operand, packaged, path, type Term } from "./aml.ts";

/** `Local0` to `Local7`. */
export function local(index: number): Term {
  if (!(index >= 0 && index <= 7)) throw new RangeError(`AML: Local${index}`);
  return join(0x60 + index);
}

/** `Arg0` to `Arg6`. */
export function arg(index: number): Term {
  if (!(index >= 0 && index <= 6)) throw new RangeError(`AML: Arg${index}`);
  return join(0x68 + index);
}

const nullTarget = join(0x00);

const unary = (opcode: number) => (value: Operand) => join(opcode, operand(value));

const binary = (opcode: number) => (left: Operand, right: Operand) =>
  join(opcode, operand(left), operand(right));

const arithmetic =
  (opcode: number) =>
  (left: Operand, right: Operand, target: Term = nullTarget) =>
    join(opcode, operand(left), operand(right), target);

export const store = (value: Operand, target: Term): Term => join(0x70, operand(value), target);
export const refOf = (target: Term): Term => join(0x71, target);
export const derefOf = unary(0x83);
export const sizeOf = (target: Term): Term => join(0x87, target);
export const increment = (target: Term): Term => join(0x75, target);
export const decrement = (target: Term): Term => join(0x76, target);
/** Whether the object exists; if so, `target` gets a reference to it. */
export const condRefOf = (source: Term, target: Term = nullTarget): Term =>
  join(0x5b, 0x12, source, target);

export const add = arithmetic(0x72);
export const concatenate = arithmetic(0x73);
export const subtract = arithmetic(0x74);
export const multiply = arithmetic(0x77);
export const shiftLeft = arithmetic(0x79);
export const shiftRight = arithmetic(0x7a);
export const and = arithmetic(0x7b);
export const or = arithmetic(0x7d);
export const xor = arithmetic(0x7f);
export const concatenateResources = arithmetic(0x84);
export const mod = arithmetic(0x85);
/** The element of a package, buffer or string, as a reference. */
export const index = arithmetic(0x88);
export const not = (value: Operand, target: Term = nullTarget): Term =>
  join(0x80, operand(value), target);
export const divide = (
  dividend: Operand,
  divisor: Operand,
  remainder: Term = nullTarget,
  quotient: Term = nullTarget,
): Term => join(0x78, operand(dividend), operand(divisor), remainder, quotient);
export const toBuffer = (value: Operand, target: Term = nullTarget): Term =>
  join(0x96, operand(value), target);
export const toInteger = (value: Operand, target: Term = nullTarget): Term =>
  join(0x99, operand(value), target);

export const logicalAnd = binary(0x90);
export const logicalOr = binary(0x91);
export const logicalNot = unary(0x92);
export const equal = binary(0x93);
export const greater = binary(0x94);
export const less = binary(0x95);
// AML has no opcodes for these three: they are the opposites of the three above (section 20.2.5.4).
export const notEqual = (left: Operand, right: Operand): Term => logicalNot(equal(left, right));
export const lessEqual = (left: Operand, right: Operand): Term => logicalNot(greater(left, right));
export const greaterEqual = (left: Operand, right: Operand): Term => logicalNot(less(left, right));

const viewAt = (opcode: number) => (source: Term, byteIndex: Operand, label: string) =>
  join(opcode, source, operand(byteIndex), path(label));

/** Named fields over a buffer, at a byte index. */
export const createDWordField = viewAt(0x8a);
export const createWordField = viewAt(0x8b);
export const createByteField = viewAt(0x8c);
export const createQWordField = viewAt(0x8f);
/** A named field over a buffer: `bits` bits from bit `bitIndex` on. */
export const createField = (source: Term, bitIndex: Operand, bits: Operand, label: string): Term =>
  join(0x5b, 0x13, source, operand(bitIndex), operand(bits), path(label));

export const call = (label: string, ...args: readonly Operand[]): Term =>
  join(path(label), ...args.map(operand));

export const when = (condition: Operand, ...terms: readonly Term[]): Term =>
  packaged(join(0xa0), operand(condition), ...terms);
/** Must follow a `when` directly. */
export const otherwise = (...terms: readonly Term[]): Term => packaged(join(0xa1), ...terms);
export const loop = (condition: Operand, ...terms: readonly Term[]): Term =>
  packaged(join(0xa2), operand(condition), ...terms);
export const leave = join(0xa5);
export const next = join(0x9f);
export const give = (value: Operand): Term => join(0xa4, operand(value));

/**
 * Tells the OS that something happened to a device: 0 bus check, 1 device check, 3 eject (section
 * 5.6.6).
 */
export const notify = (target: Term, value: Operand): Term => join(0x86, target, operand(value));

/** Waits for ever by default; otherwise for `timeoutMs`, and is then true when it was in vain. */
export const acquire = (label: string, timeoutMs = 0xffff): Term =>
  join(0x5b, 0x23, path(label), timeoutMs & 0xff, timeoutMs >> 8);
export const release = (label: string): Term => join(0x5b, 0x27, path(label));
export const sleep = (ms: Operand): Term => join(0x5b, 0x22, operand(ms));
