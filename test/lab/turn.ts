/** One guest at a time in the lab, also when two commands use it: the lock goes with the process. */

import { mkdirSync } from "node:fs";
import { close, Open, open } from "../../src/ffi/file.ts";
import { lockFile } from "../../src/ffi/file-lock.ts";
import { cache } from "./paths.ts";

const pauseMs = 500;

/** Waits for the lab to have no guest; what is returned lets others have one. */
export async function labTurn(): Promise<() => void> {
  mkdirSync(`${cache}/lab`, { recursive: true });
  const fd = open(`${cache}/lab/guest.lock`, Open.readWrite | Open.create, 0o644);
  while (!lockFile(fd, "write")) await Bun.sleep(pauseMs);
  return () => close(fd);
}
