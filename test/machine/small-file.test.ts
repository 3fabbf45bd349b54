/** Small files that are none: pipes with and without a writer, devices without an end. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readSmallFile } from "../../src/machine/small-file.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-small-"));
afterAll(() => rmSync(folder, { recursive: true }));
const pipe = join(folder, "pipe");
Bun.spawnSync(["mkfifo", pipe]);
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

test("a file is read whole, one that is too large by one byte more than is wanted", () => {
  const file = join(folder, "file");
  const content = "0123456789".repeat(20_000);
  writeFileSync(file, content);

  expect(text(readSmallFile(file, content.length))).toBe(content);
  expect(text(readSmallFile(file, 99))).toBe(content.slice(0, 100));
});

test("a device without an end is given up", () => {
  expect(readSmallFile("/dev/zero", 200_000)).toHaveLength(200_001);
});

test("a pipe that nobody writes is empty, and nobody waits for a writer", () => {
  expect(readSmallFile(pipe, 100)).toHaveLength(0);
});

test("a pipe whose writer is late is waited for, and read to its end", async () => {
  const module = join(import.meta.dir, "../../src/machine/small-file.ts");
  const reader = `const fs = require("node:fs"); const { readSmallFile } = require("${module}");
    fs.writeFileSync("${pipe}", "begin"); // the writer has the pipe open, and has said nothing
    fs.writeSync(1, readSmallFile(process.argv[1], 100));`;
  const script = 'exec "$0" -e "$1" <(cat "$2" >&2; printf one; printf two)';

  const run = Bun.spawn(["bash", "-c", script, process.execPath, reader, pipe], { stdout: "pipe" });

  expect(await new Response(run.stdout).text()).toBe("onetwo");
});

test("what is not there is an error with a code", () => {
  expect(() => readSmallFile(join(folder, "none"), 1)).toThrow("ENOENT");
});
