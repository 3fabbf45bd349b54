/** What stands at F000:FFF0, against the assembler. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { biosEntry } from "../../src/machine/boot.ts";
import { MemoryMap } from "../../src/machine/memory-map.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-bios-entry-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The machine code of 16-bit assembly. */
function assemble(source: string): Uint8Array<ArrayBuffer> {
  const [object, binary] = [join(folder, "entry.o"), join(folder, "entry.bin")];
  const run = (command: string[]) => {
    const { exitCode, stderr } = Bun.spawnSync(command, { stdin: Buffer.from(source) });
    if (exitCode !== 0) throw new Error(`${command[0]}: ${stderr}`);
  };
  run(["gcc", "-c", "-x", "assembler", "-o", object, "-"]);
  run(["objcopy", "-O", "binary", "-j", ".text", object, binary]);
  return new Uint8Array(readFileSync(binary));
}

test("the BIOS's entry writes 1 to the reset register at port 0x602, and waits", () => {
  const source = ".code16\n movw $0x602, %dx\n movb $1, %al\n outb %al, %dx\n1: hlt\n jmp 1b\n";
  expect(biosEntry).toEqual(assemble(source));
});

test("it is where F000:FFF0 points, and ends below 1 MiB", () => {
  expect<number>(MemoryMap.biosEntry).toBe(0xf000 * 16 + 0xfff0);
  expect(MemoryMap.biosEntry + biosEntry.length).toBeLessThanOrEqual(0x10_0000);
});
