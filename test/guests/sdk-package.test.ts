/** The package as a user has it: packed, installed without a network in an empty folder, its types checked, run. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildGuest } from "./build.ts";
import { chvCommand, guestTimeoutMs } from "./harness.ts";

const root = join(import.meta.dir, "../..");
const folder = mkdtempSync(join(tmpdir(), "chv-package-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const limit = guestTimeoutMs;
const node = Bun.which("node");
let kernel = "";

/** Runs a program in the folder; nothing of this project is in its environment. */
function run(words: readonly string[], environment: Record<string, string> = {}) {
  const env = { HOME: folder, PATH: "/usr/bin:/bin", BUN_INSTALL_CACHE_DIR: join(folder, "cache") };
  const options = { cwd: folder, env: { ...env, ...environment } };
  const { exitCode, stdout, stderr } = Bun.spawnSync([...words], options);
  return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

const script = `
import { boot, BinaryError, MachineError } from "chv";
import type { MachineEvent, RunResult } from "chv";

const image: string = process.argv[2]!;
const [kernel, cmdline] = process.argv.slice(3);
try {
  const cloudInit = { hostname: "box", userData: { text: "#cloud-config\\n{}\\n" } };
  const vm = await boot({ image, kernel, cmdline, memory: "64M", cpus: 1, cloudInit });
  try {
    const [match] = await vm.expect(/login:/, { timeout: "250s" });
    const result: RunResult = await vm.run("uname -r", { timeout: 250_000 });
    const bytes: Uint8Array = (await vm.run(["cat"], { stdin: "abc", bytes: true })).stdout;
    const { state } = await vm.ctl.info();
    console.log(JSON.stringify({ match, ...result, bytes: bytes.length, state }));
    await vm.stop();
    for await (const event of vm.events) if (event.event === "reset") event.properties.source satisfies string;
    const last: MachineEvent | undefined = vm.events.all.at(-1);
    console.log(last?.event, (await vm.exited).reason);
  } finally {
    await vm[Symbol.asyncDispose]();
  }
} catch (error) {
  if (error instanceof MachineError) console.log(error.reason, error.status);
  else if (error instanceof BinaryError) console.log(error.message);
  else throw error;
}
`;

/** What must not compile. */
const wrong = `
import { boot } from "chv";
await boot({ memory: "1G" });
await boot({ image: "a", timeout: "soon" });
await boot({ image: "a", disks: [{ pathh: "b" }] });
const vm = await boot({ image: "a" });
const text: string = (await vm.run("true", { bytes: true })).stdout;
for await (const event of vm.events) if (event.event === "poweroff") event.properties.why;
await vm.ctl.explode();
`;

beforeAll(async () => {
  kernel = await buildGuest("virtio-console");
  const packed = Bun.spawnSync([process.execPath, "pm", "pack", "--destination", folder], {
    cwd: root,
  });
  if (packed.exitCode !== 0) throw new Error(packed.stderr.toString());
  const tarball = readdirSync(folder).find((name) => name.endsWith(".tgz"))!;
  writeFileSync(join(folder, "package.json"), '{"name":"empty","private":true,"type":"module"}');
  const nobody = "http://127.0.0.1:9/";
  const installed = run([process.execPath, "add", `./${tarball}`, `--registry=${nobody}`]);
  if (installed.exitCode !== 0) throw new Error(installed.stderr);
  writeFileSync(join(folder, "image"), "");
  truncateSync(join(folder, "image"), 2 ** 20);
  writeFileSync(join(folder, "script.ts"), script);
  writeFileSync(join(folder, "wrong.ts"), wrong);
  const program = (await chvCommand()).map((word) => `'${word}'`).join(" ");
  writeFileSync(join(folder, "chv"), `#!/bin/sh\nexec ${program} "$@"\n`, { mode: 0o755 });
}, limit);

test("it holds what its users need, and no package is installed beside it", () => {
  expect(readdirSync(join(folder, "node_modules"))).toEqual(["chv"]);
  const module = readFileSync(join(folder, "node_modules/chv/dist/sdk/index.js"), "utf8");
  const imports = [...module.matchAll(/^import .* from "(.*)";$/gm)].map(([, name]) => name!);
  expect(imports.length).toBeGreaterThan(3);
  expect(imports.filter((name) => !name.startsWith("node:"))).toEqual([]);
});

describe.each(["bundler", "nodenext"])("types, with moduleResolution %s", (moduleResolution) => {
  const tsc = (file: string) => {
    const config = join(folder, `tsconfig.${moduleResolution}.json`);
    const options = {
      ...{ target: "es2022", lib: ["es2022", "esnext.disposable"], types: [], strict: true },
      ...{ module: moduleResolution === "bundler" ? "esnext" : "nodenext", moduleResolution },
      ...{ noEmit: true, skipLibCheck: false },
    };
    writeFileSync(join(folder, "globals.d.ts"), globals);
    const files = [file, "globals.d.ts"];
    writeFileSync(config, JSON.stringify({ compilerOptions: options, files }));
    return run([join(root, "node_modules/.bin/tsc"), "-p", config]);
  };
  const globals =
    "declare const process: { argv: string[] }; declare const console: { log(...all: unknown[]): void };";

  test(
    "a script compiles",
    () => {
      expect(tsc("script.ts")).toEqual({ exitCode: 0, stdout: "", stderr: "" });
    },
    limit,
  );

  test(
    "the pages' scripts compile",
    () => {
      const pages = ["README.md", "docs/sdk.md"].map((name) =>
        readFileSync(join(root, name), "utf8"),
      );
      const scripts = pages.flatMap((page) => [...page.matchAll(/^```ts\n(.*?)^```$/gms)]);
      for (const [, text] of scripts) {
        writeFileSync(join(folder, "page.ts"), text!);
        expect(tsc("page.ts")).toEqual({ exitCode: 0, stdout: "", stderr: "" });
      }
      expect(scripts).toHaveLength(2);
    },
    limit,
  );

  test(
    "each mistake is found",
    () => {
      const lines = [...tsc("wrong.ts").stdout.matchAll(/^wrong\.ts\((\d+),/gm)];
      expect(lines.map(([, line]) => Number(line))).toEqual([3, 4, 5, 7, 8, 9]);
    },
    limit,
  );
});

const words = "console=ttyS0 test=run-session nth=1 say=box_login:";
const runtimes = [
  ["bun", [process.execPath, "script.ts"]],
  ...(node === null ? [] : [["node", [node, "script.mjs"]] as const]),
] as const;

describe.each(runtimes)("in %s", (_, command) => {
  beforeAll(() => {
    const plain = new Bun.Transpiler({ loader: "ts" }).transformSync(script);
    writeFileSync(join(folder, "script.mjs"), plain);
  });

  test(
    "a script boots an image, runs commands in it, and ends with it",
    () => {
      const temporary = join(folder, "tmp");
      mkdirSync(temporary, { recursive: true });
      const environment = { CHV: join(folder, "chv"), TMPDIR: temporary };
      const { exitCode, stdout, stderr } = run([...command, "image", kernel, words], environment);

      expect([exitCode, stderr]).toEqual([0, ""]);
      const [result, last] = stdout.trimEnd().split("\n");
      expect(JSON.parse(result!)).toEqual({
        ...{ match: "login:", stdout: "6.12.0-micro\n", stderr: "", status: 0, signal: null },
        ...{ bytes: 3, state: "Running" },
      });
      expect(last).toBe("exit quit");
      expect(readdirSync(temporary)).toEqual([]);
    },
    limit,
  );

  test(
    "a chv on PATH is found, and why it does not boot is told",
    () => {
      const path = { PATH: `${folder}:/usr/bin:/bin` };

      expect(run([...command, "image"], path).stdout).toBe("configuration 242\n");
    },
    limit,
  );

  test(
    "without a chv it is said where one is looked for",
    () => {
      const beside = join(folder, "node_modules/chv/dist/chv");
      const fix = "put the executable there, or name it in the variable CHV";
      expect(run([...command, "image"]).stdout).toBe(
        `chv: not found at ${beside} nor on PATH; ${fix}\n`,
      );
      expect(run([...command, "image"], { CHV: "/nowhere/chv" }).stdout).toBe(
        "CHV=/nowhere/chv: no such program; name the chv executable, or unset CHV\n",
      );
    },
    limit,
  );
});
