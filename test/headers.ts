/** What the C compiler says of expressions, with the kernel's own headers included. */
import { expect } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The value of each integer expression; `headers` without "<" and ".h>". */
export function valuesInC<const Name extends string>(
  headers: readonly string[],
  expressions: readonly Name[],
): Record<Name, number> {
  const work = mkdtempSync(join(tmpdir(), "chv-headers-"));
  try {
    const source = join(work, "values.c");
    const binary = join(work, "values");
    const lines = expressions.map((text) => `  printf("%lld\\n", (long long)(${text}));`);
    const includes = ["stddef", "stdio", ...headers].map((name) => `#include <${name}.h>`);
    writeFileSync(source, [...includes, "int main(void) {", ...lines, "}", ""].join("\n"));
    const built = Bun.spawnSync(["gcc", "-w", "-O0", "-o", binary, source]);
    expect(built.stderr.toString()).toBe("");
    const numbers = Bun.spawnSync([binary]).stdout.toString().trim().split("\n").map(Number);
    return Object.fromEntries(expressions.map((name, i) => [name, numbers[i]])) as never;
  } finally {
    rmSync(work, { recursive: true });
  }
}
