/**
 * Reads one value's text as the schema's type says. What it cannot read is a UsageError without its
 * place.
 */
import { type FieldShape, fieldsOf, kebab, type Shape } from "../machine/config/shape.ts";
import { nearest, quoted } from "./nearest.ts";
import { splitList } from "./split.ts";

/**
 * The text is no value of its field: what is wrong and what to write. The caller knows the option
 * and key.
 */
export class ValueError extends Error {}

const suffixes: Readonly<Record<string, number>> = {
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
};

/** `512M` in bytes. */
function readSize(text: string): number {
  const [, digits, suffix] = /^(\d+)([KMGT]?)$/.exec(text) ?? [];
  if (digits === undefined) {
    throw new ValueError("is not a size; write bytes, or a whole number with K, M, G or T");
  }
  const bytes = Number(digits) * (suffix ? suffixes[suffix]! : 1);
  if (!Number.isSafeInteger(bytes))
    throw new ValueError("is too large; the limit is 2^53 - 1 bytes");
  return bytes;
}

function readInteger(text: string): number {
  if (!/^\d+$/.test(text)) throw new ValueError("is not a number; write decimal digits");
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new ValueError("is too large; the limit is 2^53 - 1");
  return value;
}

function readBoolean(text: string): boolean {
  if (text === "on" || text === "true") return true;
  if (text === "off" || text === "false") return false;
  throw new ValueError("is neither on nor off; write on, off, true or false");
}

const folded = (word: string) => word.toLowerCase().replaceAll("-", "");

/** The option's own spelling of a word, whatever the case and the dashes. */
function readChoice(text: string, options: readonly string[]): string {
  const found = options.find((option) => folded(option) === folded(text));
  if (found !== undefined) return found;
  const words = options.map(kebab);
  const meant = nearest(text, words);
  throw new ValueError(`is not one of ${words.join(", ")}; did you mean ${meant}?`);
}

/** An object in one value: its fields in order, joined by the separator. */
function readJoined(text: string, field: FieldShape, shape: Shape & { kind: "object" }) {
  const fields = fieldsOf(shape.schema);
  const parts = text.split(field.spelling.separator!);
  if (parts.length !== fields.length) {
    throw new ValueError(`has ${parts.length} parts; write ${field.spelling.hint}`);
  }
  return Object.fromEntries(fields.map((part, i) => [part.name, readValue(parts[i]!, part)]));
}

/** The value that `text` stands for, as it would be in JSON. */
export function readValue(text: string, field: FieldShape): unknown {
  const { shape } = field;
  if (text === "") throw new ValueError("is empty; write a value");
  switch (shape.kind) {
    case "boolean":
      return readBoolean(text);
    case "integer":
      return readInteger(text);
    case "size":
      return readSize(text);
    case "text":
      return text;
    case "choice":
      return readChoice(text, shape.options);
    case "list":
      return splitList(text).map((item) => readValue(item, shape.item));
    case "object":
      return readJoined(text, field, shape);
  }
}

/** `key=value` as it stands in a message. */
export const shown = (key: string | undefined, value: string) =>
  key === undefined ? quoted(value) : `${key}=${quoted(value).slice(1, -1)}`;
