/** A qcow2 image and the files below it as plain data: what the opener hands to the thread that serves the disk. */

/** One file of the chain. The first is the image itself; what a layer does not hold is looked for in the next. */
export interface LayerSpec {
  readonly fd: number;
  /** Size of the disk that the layer describes; behind it, it reads as zeroes. */
  readonly bytes: number;
  /** Size of the file, or of the block device. */
  readonly fileBytes: number;
  /** Opened with O_DIRECT. */
  readonly direct: boolean;
  /** Undefined for a raw file. */
  readonly tables: TablesSpec | undefined;
}

export interface TablesSpec {
  readonly version: number;
  readonly clusterBits: number;
  readonly compression: "deflate" | "zstd";
  readonly l1Offset: number;
  readonly l1Entries: number;
  /** The L1 table as it is in the file, in whole clusters. */
  readonly l1: SharedArrayBuffer;
}

/** What writing needs of the first layer beside. */
export interface WriteSpec {
  readonly refcountOrder: number;
  readonly refcountsOffset: number;
  /** The refcount table as it is in the file. */
  readonly refcounts: SharedArrayBuffer;
  /** The file's first bytes, as many as a header is written with. */
  readonly header: SharedArrayBuffer;
  /** Auto-clear feature bits are to be cleared before the first write. */
  readonly autoclear: boolean;
  /** How far the file can grow: the size of a block device, or infinity. */
  readonly limit: number;
  /** The file can give room back (see `canPunch`). */
  readonly punch: boolean;
}

export interface Qcow2Spec {
  readonly layers: readonly LayerSpec[];
  /** Undefined for an image that is only read. */
  readonly write: WriteSpec | undefined;
}
