/** A thread that is on its creator's processor is moved to another, and may use all of them afterwards as before. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const rig = join(import.meta.dir, "placement-rig.ts");
const run = (...processors: readonly number[]) => {
  const command = [process.execPath, rig, ...processors.map(String)];
  return JSON.parse(Bun.spawnSync(command).stdout.toString());
};

/** The processors of this process, by the kernel's list: "0-2,7". */
const list = /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync("/proc/self/status", "utf8"))![1]!;
const own = list.split(",").flatMap((range) => {
  const [first, last = first] = range.split("-").map(Number) as [number, number?];
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
});
const [first, second] = own as [number, number?];

test.skipIf(second === undefined)("a thread gets a processor of its own (needs two)", () => {
  const both = second === first + 1 ? `${first}-${second}` : `${first},${second}`;
  expect(run(first, second!)).toEqual({ shared: first, moved: second, allowed: both });
});

test("where there is one for all of them, they stay", () => {
  expect(run(first)).toEqual({ shared: first, moved: first, allowed: String(first) });
});
