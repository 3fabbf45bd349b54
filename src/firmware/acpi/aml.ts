/**
 * AML, the byte code of ACPI: data objects and the objects that a namespace is made of. ACPI 6.5
 * chapter 20. Operators and statements are in `aml-code.ts`, resource descriptors in
 * `resources.ts`.
 *
 * Every function returns the encoding of one term; terms nest by being passed on. Values that AML
 * cannot hold (a bad name, a negative integer, a package that is too long) throw a RangeError: they
 * are mistakes of the caller. Not built: Processor (deprecated), PowerResource, ThermalZone, Event,
 * DataTableRegion, BankField, IndexField, Alias.
 */

/** One encoded term. */
export type Term = Uint8Array<ArrayBuffer>;

/** Where AML takes any expression: a term, or an integer constant. */
export type Operand = Term | number | bigint;

/** Joins raw bytes (numbers, 0 to 255) and terms. */
export function join(...parts: readonly (number | Uint8Array)[]): Term {
  let length = 0;
  for (const part of parts) length += typeof part === "number" ? 1 : part.length;
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    if (typeof part === "number") out[at++] = part;
    else {
      out.set(part, at);
      at += part.length;
    }
  }
  return out;
}

/** `value` in `size` bytes, little-endian. */
export function littleEndian(value: number | bigint, size: number): Term {
  if (!(value >= 0 && value < 2 ** (8 * size))) {
    throw new RangeError(`AML: ${value} does not fit ${size} bytes`);
  }
  const out = new Uint8Array(size);
  if (typeof value === "number") {
    for (let at = 0, rest = value; at < size; at++, rest = Math.floor(rest / 0x100)) out[at] = rest;
  } else {
    for (let at = 0, rest = value; at < size; at++, rest >>= 8n) out[at] = Number(rest & 0xffn);
  }
  return out;
}

/**
 * The codes of plain ASCII, without NUL. A loop: on the way to a guest's start nothing else needs
 * an encoder.
 */
export function ascii(value: string): Term {
  const out = new Uint8Array(value.length);
  for (let at = 0; at < value.length; at++) {
    const code = value.charCodeAt(at);
    if (code < 1 || code > 0x7f) throw new RangeError(`AML: "${value}" is not plain ASCII`);
    out[at] = code;
  }
  return out;
}

/**
 * A PkgLength of `value`: one byte below 64, else a lead byte and up to three more (section
 * 20.2.4).
 */
function encodeLength(value: number): Term {
  if (value < 0x40) return join(value);
  for (let more = 1; more <= 3; more++) {
    if (value < 2 ** (4 + 8 * more)) {
      return join((more << 6) | (value & 0xf), littleEndian(value >>> 4, more));
    }
  }
  throw new RangeError(`AML: a package of ${value} bytes is too long`);
}

/** `opcode`, a PkgLength that counts itself and the parts but not the opcode, and the parts. */
export function packaged(opcode: Term, ...parts: readonly (number | Uint8Array)[]): Term {
  const body = join(...parts);
  if (body.length < 0x3f) return join(opcode, body.length + 1, body);
  let lengthBytes = 2;
  while (encodeLength(body.length + lengthBytes).length !== lengthBytes) lengthBytes++;
  return join(opcode, encodeLength(body.length + lengthBytes), body);
}

/**
 * One name segment: a capital letter or `_`, up to three more of those or digits; padded with `_`.
 */
function segment(text: string): Term {
  const out = ascii(text.padEnd(4, "_"));
  let valid = text.length > 0 && out.length === 4;
  for (let at = 0; at < out.length; at++) {
    const code = out[at]!;
    const isLetter = (code >= 0x41 && code <= 0x5a) || code === 0x5f;
    valid &&= isLetter || (at > 0 && code >= 0x30 && code <= 0x39);
  }
  if (!valid) throw new RangeError(`AML: bad name "${text}"`);
  return out;
}

/**
 * A NameString such as `\_SB.PCI0`, `^FOO` or `_CRS` (section 20.2.2). As an operand it refers to
 * the object.
 */
export function path(text: string): Term {
  let start = text.startsWith("\\") ? 1 : 0;
  if (start === 0) while (text[start] === "^") start++;
  const lead = ascii(text.slice(0, start));
  const rest = text.slice(start);
  if (rest === "") return join(lead, 0x00);
  const segments = rest.split(".").map(segment);
  if (segments.length === 1) return join(lead, ...segments);
  if (segments.length === 2) return join(lead, 0x2e, ...segments);
  if (segments.length > 255) throw new RangeError(`AML: the path "${text}" is too long`);
  return join(lead, 0x2f, segments.length, ...segments);
}

/**
 * An integer constant in its shortest form: Zero, One, byte, word, dword, qword, Ones (section
 * 20.2.3).
 */
export function integer(value: number | bigint): Term {
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw new RangeError(`AML: ${value} is not an integer`);
  }
  if (value < 0 || value > 0xffff_ffff_ffff_ffffn) {
    throw new RangeError(`AML: ${value} is not an unsigned 64-bit integer`);
  }
  if (value <= 0xffff_ffff) return shortInteger(Number(value));
  if (value === 0xffff_ffff_ffff_ffffn) return join(0xff);
  return join(0x0e, littleEndian(value, 8));
}

/** Of at most 32 bits. Nearly all are, and there are hundreds on the way to a guest's start. */
function shortInteger(value: number): Term {
  if (value <= 1) return new Uint8Array([value]);
  if (value <= 0xff) return new Uint8Array([0x0a, value]);
  if (value <= 0xffff) return new Uint8Array([0x0b, value, value >>> 8]);
  return new Uint8Array([0x0c, value, value >>> 8, value >>> 16, value >>> 24]);
}

/** Terms as they are, numbers as integer constants. */
export function operand(value: Operand): Term {
  if (value instanceof Uint8Array) return value;
  const isShort = typeof value === "number" && value >>> 0 === value;
  return isShort ? shortInteger(value) : integer(value);
}

/** A string constant: ASCII, without NUL. */
export const text = (value: string): Term => join(0x0d, ascii(value), 0x00);

/** A buffer with these bytes; `size` bytes long, if that is more. */
export function buffer(data: Uint8Array, size = data.length): Term {
  if (size < data.length) throw new RangeError(`AML: ${data.length} bytes in a buffer of ${size}`);
  return packaged(join(0x11), integer(size), data);
}

/** A package; above 255 elements it is a VarPackage. Elements that are names are references. */
export function list(...elements: readonly Operand[]): Term {
  const terms = elements.map(operand);
  if (terms.length <= 255) return packaged(join(0x12), terms.length, ...terms);
  return packaged(join(0x13), integer(terms.length), ...terms);
}

/**
 * A compressed EISA id such as "PNP0501": three letters of five bits, four hex digits (section
 * 19.6.37).
 */
export function eisaId(id: string): Term {
  if (!/^[A-Z]{3}[0-9A-F]{4}$/.test(id)) throw new RangeError(`AML: bad EISA id "${id}"`);
  const letter = (at: number) => id.charCodeAt(at) - 0x40;
  const letters = (letter(0) << 10) | (letter(1) << 5) | letter(2);
  const digits = Number.parseInt(id.slice(3), 16);
  // The value is big-endian in memory; AML integers are little-endian.
  const bytes = [letters >> 8, letters & 0xff, digits >> 8, digits & 0xff] as const;
  return integer(bytes[0] + bytes[1] * 0x100 + bytes[2] * 0x1_0000 + bytes[3] * 0x100_0000);
}

/**
 * A UUID as its 16-byte buffer: the first three groups little-endian, the others as written
 * (19.6.142).
 */
export function uuid(value: string): Term {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value)) {
    throw new RangeError(`AML: bad UUID "${value}"`);
  }
  const groups = value.split("-").map((group) => Uint8Array.fromHex(group));
  return buffer(join(...groups.map((group, at) => (at < 3 ? group.reverse() : group))));
}

export const scope = (name: string, ...terms: readonly Term[]): Term =>
  packaged(join(0x10), path(name), ...terms);

export const device = (name: string, ...terms: readonly Term[]): Term =>
  packaged(join(0x5b, 0x82), path(name), ...terms);

export const name = (label: string, value: Operand): Term =>
  join(0x08, path(label), operand(value));

/**
 * A method with up to 7 arguments. One that creates named objects (`createField` too) must be
 * serialized.
 */
export function method(
  label: string,
  { args = 0, serialized = false }: { args?: number; serialized?: boolean },
  ...terms: readonly Term[]
): Term {
  if (!(args >= 0 && args <= 7)) throw new RangeError(`AML: a method of ${args} arguments`);
  return packaged(join(0x14), path(label), args | (serialized ? 0x08 : 0), ...terms);
}

/**
 * An object defined by another table. `type` as ObjectType gives it (section 19.6.97): 6 device, 8
 * method.
 */
export const external = (label: string, type: number, args = 0): Term =>
  join(0x15, path(label), type, args);

/** Address spaces of an operation region (section 19.6.100). */
export const RegionSpace = { systemMemory: 0, systemIo: 1, pciConfig: 2 } as const;

export const operationRegion = (
  label: string,
  space: number,
  offset: Operand,
  length: Operand,
): Term => join(0x5b, 0x80, path(label), space, operand(offset), operand(length));

/** Widths of the accesses that a field makes (section 19.6.48). */
export const FieldAccess = { any: 0, byte: 1, word: 2, dword: 3, qword: 4, buffer: 5 } as const;

/** What a write to part of an access unit does to the rest of it. */
export const FieldUpdate = { preserve: 0, ones: 1, zeros: 2 } as const;

/** Fields over an operation region, from its first bit on; a nameless unit is skipped. */
export function field(
  region: string,
  { access, update = 0, lock = false }: { access: number; update?: number; lock?: boolean },
  ...units: readonly { readonly name?: string; readonly bits: number }[]
): Term {
  // Unlike elsewhere, the PkgLength of a unit counts bits, and not itself.
  const terms = units.map((unit) =>
    join(unit.name === undefined ? join(0x00) : segment(unit.name), encodeLength(unit.bits)),
  );
  const flags = access | (lock ? 0x10 : 0) | (update << 5);
  return packaged(join(0x5b, 0x81), path(region), flags, ...terms);
}

/** `syncLevel`: 0 to 15; mutexes must be acquired in ascending levels. */
export const mutex = (label: string, syncLevel = 0): Term =>
  join(0x5b, 0x01, path(label), syncLevel & 0x0f);
