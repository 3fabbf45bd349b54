/** What must be given back when its owner ends, in the reverse order of taking it. */
import { close } from "../ffi/file.ts";

export class Owned {
  readonly #releases: (() => void)[] = [];

  add(release: () => void): void {
    this.#releases.push(release);
  }

  /** A descriptor, handed through. */
  fd(fd: number): number {
    this.add(() => close(fd));
    return fd;
  }

  /** Something that holds a descriptor, handed through. */
  file<T extends { readonly fd: number }>(file: T): T {
    this.fd(file.fd);
    return file;
  }

  /** Gives everything back, once. An error of one does not keep the rest. */
  close(): void {
    let first: unknown;
    for (let release = this.#releases.pop(); release; release = this.#releases.pop()) {
      try {
        release();
      } catch (error) {
        first ??= error;
      }
    }
    if (first !== undefined) throw first;
  }
}
