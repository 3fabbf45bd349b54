/**
 * The quoting rule of option values. `a=1,b=2` is cut at its commas, except
 * - in a value that begins with a double quote, which runs to the closing one: the quotes go, and
 *   two quotes in it are one (`file="/a,b"`, `path="say ""hi"""`);
 * - inside square brackets, which may nest; they stay (`fd=[3,4]`). A value with a lone bracket
 *   needs quotes.
 * A quote elsewhere in a value is an ordinary character.
 */

/** One part of an option's value: `key` is undefined when there is no `=`. */
export interface Segment {
  readonly key: string | undefined;
  readonly value: string;
  /** The value stood in double quotes. */
  readonly literal: boolean;
}

/** The text breaks the rule; the message says where. */
export class SplitError extends Error {}

/** Reads the quoted value that starts at `at`; gives it and the index behind its closing quote. */
function readQuoted(text: string, at: number): [string, number] {
  let value = "";
  for (let i = at + 1; i < text.length; i++) {
    if (text[i] !== '"') {
      value += text[i];
    } else if (text[i + 1] === '"') {
      value += '"';
      i++;
    } else {
      return [value, i + 1];
    }
  }
  throw new SplitError('a double quote is never closed; write ..."text"');
}

/** The index of the comma that ends the plain text at `at`, or the end. */
function plainEnd(text: string, at: number): number {
  let depth = 0;
  for (let i = at; i < text.length; i++) {
    const c = text[i];
    if (c === "[") depth++;
    else if (c === "]") depth--;
    else if (c === "," && depth === 0) return i;
    if (depth < 0) break;
  }
  if (depth !== 0)
    throw new SplitError('a square bracket has no partner; put the value in "quotes"');
  return text.length;
}

/**
 * Where a key could end: the first `=` before any comma, quote or bracket; -1 when there is none.
 */
function keyEnd(text: string, at: number): number {
  for (let i = at; i < text.length; i++) {
    const c = text[i];
    if (c === "=") return i;
    if (c === "," || c === '"' || c === "[") return -1;
  }
  return -1;
}

/** Cuts the value of an option into its parts, in order. */
export function splitOptions(text: string): Segment[] {
  const segments: Segment[] = [];
  let at = 0;
  for (;;) {
    const equals = keyEnd(text, at);
    const key = equals < 0 ? undefined : text.slice(at, equals);
    const start = equals < 0 ? at : equals + 1;
    const literal = text[start] === '"';
    let value: string;
    let end: number;
    if (literal) {
      [value, end] = readQuoted(text, start);
      if (end < text.length && text[end] !== ",") {
        throw new SplitError("text follows a closing quote; a comma or the end must");
      }
    } else {
      end = plainEnd(text, start);
      value = text.slice(start, end);
    }
    segments.push({ key, value, literal });
    if (end >= text.length) return segments;
    at = end + 1;
  }
}

/** The items of a list: `[a,b]`, or one item without brackets. */
export function splitList(text: string): string[] {
  if (!text.startsWith("[") || !text.endsWith("]")) return [text];
  return splitOptions(text.slice(1, -1)).map(({ key, value }) =>
    key === undefined ? value : `${key}=${value}`,
  );
}

/** Writes a value so that it is read back as it is. */
export function quoteValue(value: string): string {
  return /^"|[,[\]]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}
