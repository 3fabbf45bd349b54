/** The entropy device as its driver sees it (virtio 1.2 section 5.4): one queue, no features, no configuration. */

/** An entropy device, as plain data. */
export interface EntropySpec {
  /** The source, open for reading without waiting. */
  readonly fd: number;
}

export const entropyQueueSize = 256;

/** What the backend has done, by place in its counters. */
export const EntropyCounters = ["read_ops", "read_bytes", "errors"] as const;
