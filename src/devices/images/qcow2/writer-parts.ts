/** What the writing parts of an image share. */
import type { Transfers } from "../transfers.ts";
import type { Chain } from "./chain.ts";
import type { Detour } from "./detour.ts";
import type { Frees } from "./frees.ts";
import type { Io } from "./io.ts";
import type { Lane } from "./lane.ts";
import type { Layer } from "./layer.ts";
import type { Loads } from "./loads.ts";
import type { Refcounts } from "./refcounts.ts";
import type { Requests } from "./requests.ts";
import type { TableJobs } from "./table-jobs.ts";
import type { Waits } from "./waits.ts";

export interface WriterParts {
  readonly transfers: Transfers;
  readonly requests: Requests;
  readonly chain: Chain;
  /** The first layer, the one that is written. */
  readonly layer: Layer;
  readonly io: Io;
  readonly waits: Waits;
  readonly loads: Loads;
  readonly lane: Lane;
  readonly tables: TableJobs;
  readonly refcounts: Refcounts;
  readonly frees: Frees;
  readonly detour: Detour;
  /** Zeroes to write, as many as a cluster has at least. */
  readonly zeroAddress: number;
  readonly zeroBytes: number;
  /** The image is found to be broken. */
  warn(what: string): void;
}
