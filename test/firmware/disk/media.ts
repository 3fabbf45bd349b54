/** Files as media: what the tests of file systems read. */
import { openSync, readSync, statSync } from "node:fs";
import { DiskError, type Medium } from "../../../src/firmware/disk/medium.ts";

/** `reads`: bytes that were read of it. */
export function fileMedium(path: string): Medium & { reads: number } {
  const fd = openSync(path, "r");
  const { size } = statSync(path);
  return {
    size,
    reads: 0,
    read(offset, length) {
      this.reads += length;
      const into = new Uint8Array(length);
      if (offset + length > size) throw new DiskError("beyond the end");
      readSync(fd, into, 0, length, offset);
      return into;
    },
  };
}
