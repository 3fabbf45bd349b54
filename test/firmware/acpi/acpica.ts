/**
 * ACPICA's tools (Debian: acpica-tools) as the judges of our tables: the compiler and disassembler
 * `iasl`, and `acpiexec`, which loads tables into the interpreter that Linux has. Each call works
 * in a folder of its own.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Outcome {
  readonly code: number;
  /** Standard output and standard error. */
  readonly output: string;
}

function inFolder<T>(work: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), "chv-acpi-"));
  try {
    return work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function run(folder: string, ...command: string[]): Outcome {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { cwd: folder, stdin: "ignore" });
  return { code: exitCode, output: `${stdout}${stderr}` };
}

/** The disassembly, what was said on the way, and what that source compiles to. */
export function roundTrip(table: Uint8Array) {
  return inFolder((folder) => {
    writeFileSync(join(folder, "table.dat"), table);
    const disassembly = run(folder, "iasl", "-d", "table.dat");
    const source = readFileSync(join(folder, "table.dsl"), "utf8");
    const compilation = run(folder, "iasl", "-oa", "-p", "again", "table.dsl");
    const again = new Uint8Array(readFileSync(join(folder, "again.aml")));
    return { disassembly, source, compilation, again };
  });
}

/**
 * What `iasl` makes of a definition block's content: AML, without the table header and with names
 * and expressions as written.
 */
export function compile(asl: string): Uint8Array {
  return inFolder((folder) => {
    const block = `DefinitionBlock ("", "SSDT", 2, "TEST", "TEST", 1)\n{\n${asl}\n}\n`;
    writeFileSync(join(folder, "table.asl"), block);
    const { code, output } = run(folder, "iasl", "-on", "-of", "-p", "table", "table.asl");
    if (code !== 0) throw new Error(output);
    return new Uint8Array(readFileSync(join(folder, "table.aml"))).slice(36);
  });
}

/**
 * Loads a DSDT into the interpreter and gives it commands, such as `evaluate \_SB.FOO 1`; its
 * output. It sleeps for a second before it exits: let several run at a time.
 */
export async function interpret(dsdt: Uint8Array, ...commands: string[]): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "chv-acpi-"));
  try {
    writeFileSync(join(folder, "dsdt.aml"), dsdt);
    const { exited, stdout } = Bun.spawn(["acpiexec", "-r", "-b", commands.join(";"), "dsdt.aml"], {
      cwd: folder,
      stdin: "ignore",
      stderr: "inherit",
    });
    const output = await new Response(stdout).text();
    if ((await exited) !== 0) throw new Error(output);
    return output;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
