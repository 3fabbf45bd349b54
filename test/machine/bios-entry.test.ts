/** What stands at F000:FFF0, against the assembler. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { close } from "../../src/ffi/file.ts";
import { prepareBoot } from "../../src/machine/boot.ts";
import { GuestMemory } from "../../src/machine/guest-memory.ts";
import { openInput } from "../../src/machine/input-file.ts";
import { MemoryMap } from "../../src/machine/memory-map.ts";
import { createBacking } from "../../src/machine/ram-backing.ts";
import { biosEntry } from "../../src/machine/tables.ts";
import { elf, pattern, pvhNote } from "../firmware/images.ts";

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

test.each(["", "acpi=off"])("a machine that boots a kernel has it there (%p)", (cmdline) => {
  const [ram, kernelPath] = [join(folder, "ram"), join(folder, "kernel")];
  const segments = [{ address: 0x10_0000, data: pattern(16) }];
  writeFileSync(kernelPath, elf({ entry: 0x10_0000, segments, notes: pvhNote(0x10_0000) }));
  const size = 16 * 2 ** 20;
  const backing = createBacking({
    ...{ size, file: ram, shared: true, hugepages: false, mergeable: false },
    ...{ prefault: false, thp: false },
  });
  const kernel = openInput("--kernel", kernelPath);

  prepareBoot({
    ...{ kernel, initramfs: undefined, cmdline, entry: "auto", serial: true },
    ...{ memory: new GuestMemory(size, backing), cpus: [{ apicId: 0, enabled: true }] },
  });

  const at = 0xf_fff0;
  expect(readFileSync(ram).subarray(at, at + biosEntry.length)).toEqual(Buffer.from(biosEntry));
  close(kernel.fd);
  backing.close();
});
