/**
 * Builds the npm package's half of the project: src/sdk/ becomes dist/sdk/index.js, one ES module for Bun and Node that
 * needs no other package, and the declarations beside it. `bun pm pack` and `npm pack` run it (`prepack`).
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";

const here = import.meta.dir;
const output = join(here, "dist/sdk");
const entry = "src/sdk/index.ts";

async function javaScript(): Promise<void> {
  await Bun.build({
    entrypoints: [join(here, entry)],
    ...{ outdir: output, target: "node", format: "esm", packages: "external" },
  });
}

const specifier = /(from |import\()"(\.[^"]*)\.ts"/g;

/** What the entry's declarations mention, and no more; imports name the files as they are called when compiled. */
function declarations(): void {
  const all = mkdtempSync(join(tmpdir(), "chv-types-"));
  try {
    const flags = [
      "--noEmit",
      "false",
      "--declaration",
      "--emitDeclarationOnly",
      "--stripInternal",
    ];
    const tsc = join(here, "node_modules/.bin/tsc");
    const project = join(all, "tsconfig.json");
    const files = [join(here, entry), join(here, "src/cli/run/text.d.ts")];
    const extend = { extends: join(here, "tsconfig.json"), files, include: [] };
    const types = { types: ["bun-types"], typeRoots: [join(here, "node_modules")] };
    writeFileSync(project, JSON.stringify({ ...extend, compilerOptions: types }));
    const words = [tsc, "-p", project, ...flags, "--rootDir", join(here, "src"), "--outDir", all];
    const { exitCode, stdout } = Bun.spawnSync(words, { cwd: here, stderr: "inherit" });
    if (exitCode !== 0) throw new Error(`tsc: ${stdout.toString()}`);
    const copied = new Set<string>();
    const copy = (path: string): void => {
      if (copied.has(path)) return;
      copied.add(path);
      const text = readFileSync(path, "utf8");
      const target = join(output, "types", relative(all, path));
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, text.replaceAll(specifier, '$1"$2.js"'));
      for (const [, , name] of text.matchAll(specifier)) copy(join(dirname(path), `${name}.d.ts`));
    };
    copy(join(all, "sdk/index.d.ts"));
  } finally {
    rmSync(all, { recursive: true, force: true });
  }
}

rmSync(output, { recursive: true, force: true });
await javaScript();
declarations();
