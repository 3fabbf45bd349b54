/**
 * The last lines that a guest has put out. They need no copy of their own: the ring between a console's device and its
 * worker keeps its bytes until others come over them, taken or not.
 */
import { ByteRing } from "../../bus/byte-ring.ts";
import type { ConsoleSpec } from "./spec.ts";

/** So that an event with all of it stays far below what a pipe takes at once (PIPE_BUF, 4096 bytes). */
const linesMax = 20;
const lineBytesMax = 200;
const bytesMax = 2400;

/** Of each console that has put out something, by name; of all of them at most 2400 bytes as JSON. */
export function lastLines(
  consoles: readonly ConsoleSpec[],
): Readonly<Record<string, readonly string[]>> {
  const found: Record<string, readonly string[]> = {};
  for (const { name, output } of consoles) {
    const text = new TextDecoder().decode(new ByteRing(output).recent(linesMax * lineBytesMax));
    const lines = newest(text.replaceAll("\0", ""), Math.floor(bytesMax / consoles.length));
    if (lines.length > 0) found[name] = lines;
  }
  return found;
}

/** The last lines of a text that are not empty, the newest last; `room` is what they may take as JSON, in bytes. */
function newest(text: string, room: number): string[] {
  const lines: string[] = [];
  let left = room;
  const all = text.split(/\r*\n/).filter((line) => line.trim() !== "");
  for (const line of all.reverse()) {
    const shown = line.slice(0, lineBytesMax);
    left -= new TextEncoder().encode(JSON.stringify(shown)).length + 1;
    if (left < 0 || lines.length === linesMax) break;
    lines.unshift(shown);
  }
  return lines;
}
