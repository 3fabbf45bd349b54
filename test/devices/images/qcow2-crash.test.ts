/** A crash at any point of random requests leaves a sound image with all that was flushed: docs/disks.md. */
import { afterAll, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { ImageFile } from "./qcow2-check.ts";
import { crashed, crashRun, tryCrashes } from "./qcow2-crash.ts";
import { randomOf } from "./qcow2-memory.ts";
import { makeImage, scenarios, testFolder } from "./qcow2-scenarios.ts";

const folder = testFolder();
afterAll(() => rmSync(folder, { recursive: true }));

test.each(scenarios.map((scenario, index) => [scenario.name, scenario, index] as const))(
  "a crash leaves no more than leaks: %s",
  (_name, scenario, index) => {
    const made = makeImage(folder, scenario);
    const small = { cacheBytes: 1024, refcountCacheBytes: 2048 };
    const rig = { slots: 8, punch: index % 3 > 0, ...(index % 2 === 0 ? small : {}) };
    const run = crashRun(made.path, {
      ...{ seed: 100 + index, steps: 70, most: 4 + (index % 3) * 8, content: made.content, rig },
    });

    const images = tryCrashes(folder, run, made, { every: 19, qemuEvery: 20 });

    const flushed = run.flushes.filter(({ ended }) => ended < Number.POSITIVE_INFINITY).length;
    expect([images > 8, flushed > 1]).toEqual([true, true]);
  },
);

test("a crash while the refcount table grows leaves no more than leaks", () => {
  // 64 refcounts a block, 64 blocks a cluster of the table: at 2 MiB the table has to move
  const scenario = { name: "growth", options: "cluster_size=512,refcount_bits=64", size: 2 ** 22 };
  const made = makeImage(folder, scenario);
  const run = crashRun(made.path, {
    ...{ seed: 7, steps: 16, most: 1500, weights: [1, 0, 0, 0] as const },
    rig: { room: 2 ** 20, slots: 3 },
  });

  const header = run.record.findIndex(({ kind, offset }) => kind === "write" && offset === 0);
  expect(header).toBeGreaterThan(0);
  const random = randomOf(3);
  for (let cut = header - 4; cut < header + 6; cut++) {
    const last = (_: number, index: number) => index === cut - 1;
    for (const survives of [() => false, last, () => random(2) === 0]) {
      expect(new ImageFile(crashed(run, cut, survives)).check().corruptions).toEqual([]);
    }
  }
});
