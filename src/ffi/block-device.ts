/** Block devices of the host (linux/fs.h). */
import { Block } from "./block.ts";
import { ioctl, ior } from "./ioctl.ts";

/** BLKGETSIZE64 carries sizeof(size_t). */
const BLKGETSIZE64 = ior("BLKGETSIZE64", 0x12, 114, { size: 8 });

/** Its size in bytes. */
export function deviceBytes(fd: number): number {
  const size = new Block(8);
  ioctl(fd, BLKGETSIZE64, size);
  return Number(size.view.getBigUint64(0, true));
}
