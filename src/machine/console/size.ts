/** The size of a terminal, which the main thread tells the I/O worker: one word of shared memory, and an eventfd. */

/** As plain data. */
export interface TerminalSizeSpec {
  readonly word: SharedArrayBuffer;
  /** An eventfd: the size has changed. */
  readonly fd: number;
}

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** Both numbers are below 65536. */
export function storeSize({ word }: TerminalSizeSpec, { columns, rows }: TerminalSize): void {
  Atomics.store(new Uint32Array(word), 0, rows * 65536 + columns);
}

export function loadSize({ word }: TerminalSizeSpec): TerminalSize {
  const both = Atomics.load(new Uint32Array(word), 0);
  return { columns: both % 65536, rows: Math.floor(both / 65536) };
}
