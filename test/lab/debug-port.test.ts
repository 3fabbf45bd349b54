/** The hand-made program, read by the system's own ELF rules: the kernel runs it. */

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { debugPortProgram } from "../e2e/initramfs/debug-port.ts";

test("the kernel takes it for an executable, and it ends by itself", () => {
  const folder = mkdtempSync("/tmp/debug-port-");
  writeFileSync(`${folder}/debug-port`, debugPortProgram(), { mode: 0o755 });
  const run = Bun.spawnSync([`${folder}/debug-port`], { stdin: new Uint8Array(0) });
  rmSync(folder, { recursive: true });

  // 0 with the port and nothing to write; 1 where ioperm(2) is refused.
  expect(run.signalCode).toBeUndefined();
  expect([0, 1]).toContain(run.exitCode);
});

test("its last instructions are exit(2)'s: mov eax, 60; syscall", () => {
  const program = debugPortProgram();

  expect(Buffer.from(program.slice(-7)).toString("hex")).toBe("b83c0000000f05");
});
