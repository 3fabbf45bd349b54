import { test } from "bun:test";
import { tryRandomPmem } from "../random-pmem.ts";

test("random requests for persistent memory are flushed and answered as the specification says", () => {
  tryRandomPmem(100_000);
}, 600_000);
