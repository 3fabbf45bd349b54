/**
 * The memory map a PC's firmware reports (ACPI 6.5 section 15, "System Address Map Interfaces"):
 * built from RAM and from ranges that are not RAM, sorted, without overlaps, neighbours of one kind
 * joined.
 */
import type { Range } from "./ranges.ts";

/** The types of ACPI 6.5 table 15.374. `hole` is ours: it cuts RAM away and is not reported. */
export const E820Type = { hole: 0, ram: 1, reserved: 2, acpi: 3, nvs: 4, unusable: 5 } as const;

export interface E820Entry {
  readonly start: number;
  /** In bytes. */
  readonly length: number;
  readonly type: number;
}

/**
 * The map of a machine. `others` is whatever is not plain RAM: the legacy hole below 1 MiB,
 * MMCONFIG, tables. It takes precedence over RAM; among themselves the higher type wins, as in
 * Linux. Empty entries vanish.
 */
export function buildE820(
  ram: readonly { readonly start: number; readonly length: number }[],
  others: readonly E820Entry[],
): E820Entry[] {
  const all = [
    ...ram.map(({ start, length }) => ({ start, length, type: E820Type.ram as number })),
    ...others,
  ].filter(({ length }) => length > 0);
  for (const { start, length } of all) {
    if (!Number.isSafeInteger(start) || start < 0 || !Number.isSafeInteger(start + length)) {
      throw new RangeError(`e820: ${length} bytes at ${start} are no memory range`);
    }
  }
  const bounds = all.map(({ start }) => start);
  for (const { start, length } of all) bounds.push(start + length);
  bounds.sort((a, b) => a - b);
  const map: { start: number; length: number; type: number }[] = [];
  for (let i = 0; i + 1 < bounds.length; i++) {
    const start = bounds[i]!;
    const end = bounds[i + 1]!;
    if (start === end) continue;
    const type = strongest(all.filter((e) => e.start <= start && e.start + e.length >= end));
    if (type === undefined || type === E820Type.hole) continue;
    const last = map[map.length - 1];
    if (last?.type === type && last.start + last.length === start) last.length = end - last.start;
    else map.push({ start, length: end - start, type });
  }
  return map;
}

/** RAM yields to everything, a hole to everything but RAM. */
function strongest(entries: readonly E820Entry[]): number | undefined {
  const rank = (type: number) => (type === E820Type.ram ? -1 : type);
  let found: number | undefined;
  for (const { type } of entries) {
    if (found === undefined || rank(type) > rank(found)) found = type;
  }
  return found;
}

/** The ranges of a map that the guest may use as RAM. */
export function usableRanges(map: readonly E820Entry[]): Range[] {
  return map
    .filter(({ type, length }) => type === E820Type.ram && length > 0)
    .map(({ start, length }) => ({ start, end: start + length }))
    .sort((a, b) => a.start - b.start);
}
