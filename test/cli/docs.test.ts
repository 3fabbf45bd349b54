import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { commands } from "../../src/cli/commands.ts";
import { helpText } from "../../src/cli/help.ts";
import { referenceTables } from "../../src/cli/reference.ts";
import { ExitCode, exitCodes } from "../../src/exit-codes.ts";

const page = (name: string) => readFileSync(join(import.meta.dir, "../../docs", name), "utf8");

test("docs/exit-codes.md has the table of the source", () => {
  const rows = [...page("exit-codes.md").matchAll(/^\| (\d+) \| (.*) \|$/gm)];

  expect(rows.map(([, code, meaning]) => [Number(code), meaning!])).toEqual(
    exitCodes.map(([, code, meaning]) => [code, meaning]),
  );
});

test("the codes are those of the specification", () => {
  expect(ExitCode).toEqual({
    ok: 0,
    interrupted: 130,
    usage: 240,
    noKvm: 241,
    configuration: 242,
    bootFailed: 243,
    timeout: 244,
    guestPanic: 245,
    failOn: 246,
    expectNotMet: 247,
    guestGone: 248,
    internal: 249,
  });
});

test("docs/cli.md ends with the tables that the schema gives", () => {
  const [, tables] = page("cli.md").split(/<!-- What follows .*-->\n\n/);

  expect(tables).toBe(`${referenceTables()}\n`);
});

test("help lists every option and the keys of those that are built", async () => {
  const help = await helpText({}, undefined);

  for (const option of page("cli.md").matchAll(/^\| (?:`-.`, )?`--([a-z-]+)/gm)) {
    expect(help).toContain(`--${option[1]}`);
  }
  expect(help).toContain("size=SIZE");
  expect(help).toContain("topology=THREADS:CORES:DIES:PACKAGES");
  expect(help).toMatch(/--device=.*\(not built in this version\)/);
  expect(help).toContain("host_mac");
  expect(help).not.toContain("cache_size");
});

test("help that goes to a pipe has no colours and no blanks at line ends", async () => {
  const help = await helpText({}, undefined);

  expect(help).not.toContain("\u001b");
  expect(help).not.toMatch(/ $/m);
});

test("the help of chv run says where the command goes, and has no option that it refuses", async () => {
  const help = await helpText(commands, "run");

  expect(help).toContain("USAGE chv run [OPTIONS] <IMAGE> [-- COMMAND…]\n");
  expect(help).not.toMatch(/--on-(?:reboot|poweroff|panic)/);
});
