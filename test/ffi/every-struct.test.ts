/** A layout is worked out when it is first used: here all of them are, against the size that each declares. */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const sources = join(import.meta.dir, "../../src");
const files = readdirSync(sources, { recursive: true })
  .map((name) => join(sources, String(name)))
  .filter((path) => path.endsWith(".ts") && / = struct\(/.test(readFileSync(path, "utf8")));

test("every struct has the size that it declares", async () => {
  let count = 0;
  for (const path of files) {
    for (const value of Object.values((await import(path)) as Record<string, unknown>)) {
      if (typeof value !== "function" || !("structName" in value)) continue;
      expect(Object.keys((value as unknown as { offsets: object }).offsets)).not.toEqual([]);
      count++;
    }
  }
  expect(count).toBeGreaterThan(80);
});
