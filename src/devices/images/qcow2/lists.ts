/** Numbers that the parts of an image share: lists of waiting tasks (see waits.ts), and tokens of the ring. */

/** L2 slices that are loaded at the same time, and compressed clusters that are read or unpacked at the same time. */
export const loadChannels = 16;
export const maxInflated = 8;
/** Writes of metadata at the same time. */
export const laneOps = 16;
/** Clusters that are copied at the same time. */
export const maxCopies = 8;

const loads = 0;
const inflated = loads + loadChannels;
const others = inflated + maxInflated;

export const List = {
  /** One for each slice that is being loaded. */
  loads,
  /** One for each compressed cluster that is being read. */
  inflated,
  /** For whatever needs the lane (see lane.ts), or for it to be free. */
  lane: others,
  /** For a channel to load a slice with; for a buffer to unpack in; for one to copy a cluster with. */
  loadRoom: others + 1,
  inflateRoom: others + 2,
  copyRoom: others + 3,
  /** For another's new clusters to be entered. */
  placing: others + 4,
  /** For the next commit, and for the one that is under way. */
  flush: others + 5,
  committing: others + 6,
  /** For the list of clusters to free to have room again. */
  freed: others + 7,
} as const;
export const listCount = others + 8;

/** Ring entries that an image needs beside one for each request. */
export const extraRequests = maxCopies + maxInflated + loadChannels + laneOps;

/** Where the ring's tokens of each part begin. Those of slots, and of copies behind them, are the tasks' numbers. */
export function tokensOf(slots: number) {
  const copies = slots;
  const inflated = copies + maxCopies;
  const loads = inflated + maxInflated;
  const lane = loads + loadChannels;
  return { copies, inflated, loads, lane, end: lane + laneOps };
}
export type Tokens = ReturnType<typeof tokensOf>;
