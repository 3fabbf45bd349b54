/**
 * The one build: src/main.ts and every worker of src/workers.ts become dist/chv, a single
 * executable that needs nothing beside it but glibc.
 *
 * Bytecode halves the start-up; it needs ES modules (top-level await, `import.meta`). It is loaded whole before a
 * module's first statement, so the bundle is split: what is imported or required only where it is needed (commands, the
 * API, devices) is in files of its own, few of them (build-preludes.ts), and what several threads run is there once.
 * Names are kept, so that a stack trace of chv's own fault can be read. The binary never looks at a .env or bunfig.toml
 * of the folder it is started in.
 */

import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  utimesSync,
} from "node:fs";
import { fileURLToPath } from "node:url";
import { preludePlugin, preludesOf } from "./build-preludes.ts";
import { engines } from "./package.json" with { type: "json" };
import { encodeCommon } from "./src/firmware/acpi/acpi.ts";
import { platform, serial } from "./src/machine/platform.ts";
import * as workers from "./src/workers.ts";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const output = here("dist/chv");

/** The entry and one more entry point per worker URL; src/ is their common root. */
function entryPoints(): string[] {
  const files = Object.entries(workers).map(([name, url]) => {
    const file = fileURLToPath(url);
    if (!existsSync(file)) throw new Error(`src/workers.ts: ${name}: there is no ${file}`);
    return file;
  });
  return [here("src/main.ts"), ...files];
}

/** What the ACPI tables of all machines have in common: JSON, in hex. */
function acpiCommon(): string {
  const { board, serial: port, fadt, mcfg } = encodeCommon({ ...platform, serial });
  return JSON.stringify({ board, serial: port, fadt, mcfg }, (_, value) =>
    value instanceof Uint8Array ? value.toHex() : value,
  );
}

/** Builds beside the output and renames, so that a running or half-built chv is never in the way. */
async function build(): Promise<void> {
  if (Bun.version !== engines.bun) {
    console.error(`build.ts: this is Bun ${Bun.version}, package.json asks for ${engines.bun}`);
  }
  const entries = entryPoints();
  const [first, ...workerFiles] = entries;
  const started = new Date();
  const unfinished = `${output}.${process.pid}`;
  mkdirSync(here("dist"), { recursive: true });
  try {
    await Bun.build({
      entrypoints: entries,
      plugins: [preludePlugin(preludesOf(first!, here("src/cli/main.ts"), workerFiles))],
      target: "bun",
      format: "esm",
      splitting: true,
      bytecode: true,
      define: { ACPI_COMMON: JSON.stringify(acpiCommon()) }, // see src/machine/tables.ts
      sourcemap: "linked", // log lines and stack traces name the source
      minify: { whitespace: true, syntax: true, identifiers: false },
      compile: {
        outfile: unfinished,
        jitPolicy: 10, // until src/jit-policy.ts says otherwise
        autoloadDotenv: false,
        autoloadBunfig: false,
        autoloadTsconfig: false,
        autoloadPackageJson: false,
      },
    });
    chmodSync(unfinished, 0o755);
    // A source saved while the build ran is newer than this: the next ./dev builds again.
    utimesSync(unfinished, started, started);
    renameSync(unfinished, output);
  } finally {
    rmSync(unfinished, { force: true });
    // the binary has its source maps inside
    for (const file of readdirSync(here("dist"))) {
      if (file.endsWith(".map")) rmSync(here(`dist/${file}`), { force: true });
    }
  }
}

try {
  await build();
} catch (error) {
  const causes = error instanceof AggregateError ? error.errors : [error];
  for (const cause of causes) console.error(Bun.inspect(cause));
  process.exit(1);
}
