/** A kernel with relocations, as the linker makes it for any virtual base. */
import { expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";

/**
 * Every kind of place that Linux's table lists: absolute in 32 and 64 bits, and relative to what
 * does not move.
 */
const source = `
  .text
  .globl start
  start:
    nop
    movq $target, %rax
    movl fixed(%rip), %eax
    movq $target + 3, %rbx
    jmp start
  .data
    .byte 1
  target: .quad start, target + 5, start + 0x7f000000
    .quad 0x1122334455667788
    .space 5000
    .quad target
`;

/**
 * The linker's own result for a virtual base: the file, and the places of its relocations by type.
 */
export function link(base: bigint) {
  const folder = mkdtempSync("/tmp/chv-link-");
  const path = `${folder}/${base.toString(16)}`;
  writeFileSync(`${path}.S`, source);
  writeFileSync(
    `${path}.ld`,
    `fixed = 0x1000;
    ENTRY(entry)
    PHDRS { text PT_LOAD; data PT_LOAD; }
    SECTIONS {
      entry = 0x1000000;
      . = 0x${base.toString(16)};
      .text : AT(0x1000000) { *(.text) } :text
      . = ALIGN(0x1000);
      .data : AT(0x1001000) { *(.data) } :data
      /DISCARD/ : { *(.note*) *(.comment) }
    }`,
  );
  const run = (...command: string[]) => {
    const result = Bun.spawnSync(command);
    expect(result.stderr.toString()).toBe("");
    return result.stdout.toString();
  };
  run("as", "-o", `${path}.o`, `${path}.S`);
  run(
    "ld",
    "-z",
    "max-page-size=4096",
    "--emit-relocs",
    "-T",
    `${path}.ld`,
    "-o",
    path,
    `${path}.o`,
  );
  const places = (type: string) =>
    [...run("readelf", "-rW", path).matchAll(/^([0-9a-f]{16})\s+\S+\s+(\S+)/gm)]
      .filter((match) => match[2] === type)
      .map((match) => Number.parseInt(match[1]!.slice(8), 16));
  const result = {
    file: new Uint8Array(readFileSync(path)),
    absolute64: places("R_X86_64_64"),
    absolute32: places("R_X86_64_32S"),
    relative32: places("R_X86_64_PC32"),
  };
  rmSync(folder, { recursive: true });
  return result;
}
