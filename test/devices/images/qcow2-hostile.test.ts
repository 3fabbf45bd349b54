import { afterAll, test } from "bun:test";
import { rmSync } from "node:fs";
import { makeVictims, tryHostileImages } from "./qcow2-hostile.ts";
import { testFolder } from "./qcow2-scenarios.ts";

const folder = testFolder();
afterAll(() => rmSync(folder, { recursive: true }));

test("images that lie are refused, or served as far as they go", () => {
  tryHostileImages(folder, makeVictims(folder), 60);
});
