/** A thread that is on its creator's processor is moved to another, and may use all of them afterwards as before. */
import { expect, test } from "bun:test";
import { cpus } from "node:os";
import { join } from "node:path";

const rig = join(import.meta.dir, "placement-rig.ts");
const run = (...before: string[]) => {
  const { stdout } = Bun.spawnSync([...before, process.execPath, rig]);
  return JSON.parse(stdout.toString());
};

test.skipIf(cpus().length < 2)("a thread gets a processor of its own (needs two)", () => {
  expect(run("taskset", "-c", "0,1")).toEqual({ shared: 0, moved: 1, allowed: ["0-1"] });
});

test("where there is one for all of them, they stay", () => {
  const one = "import { moveOthersAway } from './src/ffi/placement.ts'; moveOthersAway();";
  const { exitCode } = Bun.spawnSync(["taskset", "-c", "0", process.execPath, "-e", one], {
    cwd: join(import.meta.dir, "../.."),
  });
  expect(exitCode).toBe(0);
});
