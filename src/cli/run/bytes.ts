/**
 * Words of the command line as they were given: the runtime puts U+FFFD in place of bytes that are no UTF-8. Here such
 * a byte is a code unit of its own, U+DC00 and the byte, as in Python (PEP 383, "surrogateescape"), which the runner is
 * written in; JSON can say that.
 */
import { readFileSync } from "node:fs";

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const utf8Most = 4;

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Bytes as text. */
export function escaped(bytes: Uint8Array): string {
  const whole = textOf(bytes);
  if (whole !== undefined) return whole;
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    let length = 1;
    let character: string | undefined;
    for (; length <= utf8Most && character === undefined; length++) {
      character = textOf(bytes.subarray(at, at + length));
    }
    text += character ?? String.fromCharCode(0xdc00 + bytes[at]!);
    at += character === undefined ? 1 : length - 1;
  }
  return text;
}

/** `words` are the last ones of the command line. */
export function asGiven(words: readonly string[]): readonly string[] {
  if (words.length === 0 || !words.some((word) => word.includes("\ufffd"))) return words;
  const all = readFileSync("/proc/self/cmdline");
  const given: Uint8Array[] = [];
  for (let at = 0, end = 0; at < all.length; at = end + 1) {
    end = all.indexOf(0, at);
    given.push(all.subarray(at, end));
  }
  return given.slice(-words.length).map(escaped);
}
