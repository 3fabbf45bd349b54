/** What reports say; the first two are written by hand, the third by Bun's runner of a file made for it. */

import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { countsOf, failuresOf, filesOf } from "./report.ts";

test("passed is what neither failed nor was skipped, errors being failures", () => {
  const root =
    '<testsuites name="x" tests="10" assertions="7" failures="2" errors="1" skipped="3">';

  expect(countsOf(`<?xml version="1.0"?>\n${root}\n</testsuites>`)).toEqual({
    passed: 4,
    failed: 3,
    skipped: 3,
  });
});

test("a report that was cut off before its root counts as none", () => {
  expect(countsOf('<?xml version="1.0"?>')).toBeUndefined();
});

test("the tests that failed are named with their groups, and what they failed of", () => {
  const folder = mkdtempSync(join(tmpdir(), "chv-report-"));
  try {
    writeFileSync(
      join(folder, "some.test.ts"),
      `import { describe, expect, test } from "bun:test";
       describe("a <group>", () => {
         describe("in it", () => {
           test('one & "two"', () => expect(1).toBe(2));
           test("good", () => {});
         });
       });
       test("late", () => new Promise(() => {}));
       test.skip("skipped", () => {});`,
    );
    const report = join(folder, "report.xml");
    const command = [process.execPath, "test", "--timeout", "100", "--reporter=junit"];
    const { exitCode } = Bun.spawnSync(
      [...command, `--reporter-outfile=${report}`, "./some.test.ts"],
      {
        cwd: folder,
        stdio: ["ignore", "ignore", "ignore"],
      },
    );
    const text = readFileSync(report, "utf8");

    expect(exitCode).toBe(1);
    expect(countsOf(text)).toEqual({ passed: 1, failed: 2, skipped: 1 });
    expect([...filesOf(text)]).toEqual(["some.test.ts"]);
    expect(failuresOf(text)).toEqual([
      {
        file: "some.test.ts",
        name: 'a <group> > in it > one & "two"',
        message: "expect(received).toBe(expected); Expected: 2; Received: 1",
      },
      { file: "some.test.ts", name: "late", message: "test timed out" },
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("files are named from the root, wherever the runner was when it wrote", () => {
  const suite = (file: string) => `<testsuite name="x" file="${file}" tests="1">`;
  const files = ["test/a.test.ts", "../test/chv/test/b/b.test.ts", "/test/c.test.ts"];

  expect([...filesOf(files.map(suite).join("\n"))]).toEqual([
    ...["test/a.test.ts", "test/b/b.test.ts", "test/c.test.ts"],
  ]);
});
