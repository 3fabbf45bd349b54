/** Which modules are put in front of which entries, on a small program whose answer is written by hand. */
import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { preludePlugin, preludesOf } from "../build-preludes.ts";

const root = mkdtempSync(join(tmpdir(), "chv-preludes-"));
afterAll(() => rmSync(root, { recursive: true }));

const path = (name: string) => join(root, "src", `${name}.ts`);
const say = (name: string) => `(globalThis.said ??= []).push("${name}");`;
const files = {
  loader: `import "./early.ts"; await import("./program.ts");`,
  program: `import "./one.ts"; import "./two.ts"; import "./both.ts"; import "./early.ts";
    import "./deep.ts"; globalThis.later = () =>
    [require("./command.ts"), require("./other.ts"), import("./lazy.ts")];`,
  worker: `import "./both.ts"; import "./own.ts"; globalThis.later = () => require("./lazy.ts");`,
  command: `import "./one.ts";`,
  other: `import "./two.ts";`,
  lazy: `import "./deep.ts";`,
  both: `import "./base.ts"; import "node:fs";`,
};
const modules = ["early", "one", "two", "base", "own", "deep"];

mkdirSync(join(root, "src"));
for (const [name, text] of Object.entries(files)) writeFileSync(path(name), text + say(name));
for (const name of modules) writeFileSync(path(name), say(name));
const preludes = preludesOf(path("loader"), path("program"), [path("worker")]);

test("what a worker has at once is for all, what only main ever has is for main's", () => {
  // `early` has been loaded before; `deep` comes to the worker later, and to main at once
  expect(preludes.all).toEqual(["base", "both"].map(path));
  expect(preludes.main).toEqual(["one", "two"].map(path));
});

test("a worker's entry, and what a worker loads later, has nothing of main's in front", () => {
  const { all, main } = preludes;
  const before = (name: string) => preludes.of(path(name));
  expect(["worker", "lazy"].map(before)).toEqual([[all], [all]]);
  expect(["program", "command"].map(before)).toEqual([
    [all, main],
    [all, main],
  ]);
  expect(["loader", "early", "one", "base"].map(before)).toEqual([[], [], [], []]);
});

test("a build with them has fewer files, and the same modules run once each, preludes first", async () => {
  const build = async (plugins: Bun.BunPlugin[]) => {
    const outdir = mkdtempSync(join(root, "out-"));
    const entrypoints = ["loader", "worker"].map(path);
    await Bun.build({ entrypoints, outdir, target: "bun", splitting: true, plugins });
    const said = ["loader", "worker"].map((entry) => {
      const tell = "() => console.log(JSON.stringify(globalThis.said))";
      const run = `import("${outdir}/${entry}.js").then(${tell});`;
      return JSON.parse(Bun.spawnSync([process.execPath, "-e", run]).stdout.toString());
    });
    return { said, count: readdirSync(outdir).length };
  };
  const [plain, packed] = [await build([]), await build([preludePlugin(preludes)])];
  const before = ["early", "one", "two", "base", "both", "deep", "program", "loader"];
  expect(plain.said).toEqual([before, ["base", "both", "own", "worker"]]);
  const after = ["early", "base", "both", "one", "two", "deep", "program", "loader"];
  expect(packed.said).toEqual([after, ["base", "both", "own", "worker"]]);
  expect(packed.count).toBeLessThan(plain.count);
});
