/** qcow2 images for hours: cut at every point, hostile, and with every width of refcounts. */
import { afterAll, test } from "bun:test";
import { rmSync } from "node:fs";
import { crashRun, tryCrashes } from "../qcow2-crash.ts";
import { makeVictims, tryHostileImages } from "../qcow2-hostile.ts";
import { makeImage, scenarios, testFolder } from "../qcow2-scenarios.ts";

const folder = testFolder();
afterAll(() => rmSync(folder, { recursive: true }));

const { CHV_SEED = "1" } = process.env;
const firstSeed = CHV_SEED === "random" ? Math.floor(Math.random() * 1e6) : Number(CHV_SEED);

test.each(scenarios.map((scenario) => [scenario.name, scenario] as const))(
  "a crash at every point leaves no more than leaks: %s",
  (_name, scenario) => {
    const made = makeImage(folder, scenario);
    for (let seed = firstSeed; seed < firstSeed + 4; seed++) {
      const small = { cacheBytes: 1024, refcountCacheBytes: 2048 };
      const rig = { slots: 2 + (seed % 7), punch: seed % 3 > 0, ...(seed % 2 ? small : {}) };
      const options = { seed, steps: 200, most: 2 + (seed % 5) * 10, content: made.content, rig };
      const run = crashRun(made.path, options);
      try {
        tryCrashes(folder, run, made, { every: 1, qemuEvery: 100, exhaustive: true });
      } catch (error) {
        throw new Error(`seed ${seed}: ${(error as Error).message}`);
      }
    }
  },
  600_000,
);

test("images that lie are refused, or served as far as they go", () => {
  tryHostileImages(folder, makeVictims(folder), 50_000);
}, 600_000);
