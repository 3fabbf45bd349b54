/** Ranges of guest-physical memory: what is free, and where something fits. `end` is exclusive. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

export const alignUp = (value: number, align: number): number => Math.ceil(value / align) * align;

export const alignDown = (value: number, align: number): number =>
  Math.floor(value / align) * align;

/** `from` without `taken`, in address order if `from` is. */
export function subtract(from: readonly Range[], taken: readonly Range[]): Range[] {
  let free = [...from];
  for (const hole of taken) {
    const left: Range[] = [];
    for (const { start, end } of free) {
      if (hole.end <= start || hole.start >= end) {
        left.push({ start, end });
        continue;
      }
      if (start < hole.start) left.push({ start, end: hole.start });
      if (hole.end < end) left.push({ start: hole.end, end });
    }
    free = left;
  }
  return free;
}

/** Whether one of `ranges` holds all of [start, end). */
export function holds(ranges: readonly Range[], start: number, end: number): boolean {
  return ranges.some((range) => range.start <= start && end <= range.end);
}

/**
 * The lowest aligned address from `minimum` up where `size` bytes fit; undefined when none does.
 */
export function lowestFit(
  free: readonly Range[],
  size: number,
  align: number,
  minimum: number,
): number | undefined {
  for (const range of free) {
    const address = alignUp(Math.max(range.start, minimum), align);
    if (address + size <= range.end) return address;
  }
  return undefined;
}

/**
 * The highest aligned address where `size` bytes fit and end at or below `limit`; undefined when
 * there is none.
 */
export function highestFit(
  free: readonly Range[],
  size: number,
  align: number,
  limit: number,
): number | undefined {
  for (const range of [...free].reverse()) {
    const address = alignDown(Math.min(range.end, limit) - size, align);
    if (address >= range.start) return address;
  }
  return undefined;
}

/**
 * One of all aligned addresses where `size` bytes fit in [minimum, limit), picked by `pick(count)`,
 * which returns a number below `count`; undefined when there is none.
 */
export function pickFit(
  free: readonly Range[],
  size: number,
  align: number,
  { minimum, limit }: { minimum: number; limit: number },
  pick: (count: number) => number,
): number | undefined {
  const slots = free
    .map((range) => {
      const first = alignUp(Math.max(range.start, minimum), align);
      const room = Math.min(range.end, limit) - size - first;
      return { first, count: room < 0 ? 0 : Math.floor(room / align) + 1 };
    })
    .filter(({ count }) => count > 0);
  const total = slots.reduce((sum, { count }) => sum + count, 0);
  if (total === 0) return undefined;
  let index = pick(total);
  for (const { first, count } of slots) {
    if (index < count) return first + index * align;
    index -= count;
  }
  throw new RangeError(`slot ${index} of ${total}`);
}
