/** The rules of the source tree that no compiler checks: sizes, who may import whom, and what nobody needs. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { Glob } from "bun";

const root = join(import.meta.dir, "..");
const files = (pattern: string): string[] => [...new Glob(pattern).scanSync(root)].toSorted();

interface Source {
  /** From the root of the project. */
  readonly path: string;
  readonly lines: readonly string[];
  /** Imports that are there when the program runs: files from the root, or packages. */
  readonly imports: readonly string[];
  /** Of these, those that are there before its first statement. */
  readonly statics: readonly string[];
  /** The imports, and the ones for types alone. */
  readonly mentions: readonly string[];
}

const statement =
  /^(?:import|export)\b(?:\s+(type)\b)?(?:[^;"']*?\bfrom)?\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)/gm;

function read(path: string): Source {
  const text = readFileSync(join(root, path), "utf8");
  const imports: string[] = [];
  const statics: string[] = [];
  const mentions: string[] = [];
  for (const [, type, from, dynamic] of text.matchAll(statement)) {
    const name = (from ?? dynamic)!;
    const target = name.startsWith(".") ? relative(root, join(root, dirname(path), name)) : name;
    mentions.push(target);
    if (type === undefined) imports.push(target);
    if (type === undefined && from !== undefined) statics.push(target);
  }
  return { path, lines: text.split("\n"), imports, statics, mentions };
}

const sources = files("src/**/*.ts").map(read);
const byPath = new Map(sources.map((source) => [source.path, source]));
const everything = [
  ...sources,
  ...files("test/**/*.ts").map(read),
  ...["build.ts", "build-preludes.ts", "build-sdk.ts"].map(read),
];

/** `path:line` of every line that `wrong` finds. */
function linesOf(
  all: readonly Source[],
  wrong: (line: string, source: Source) => boolean,
): string[] {
  return all.flatMap((source) =>
    source.lines.flatMap((line, i) => (wrong(line, source) ? [`${source.path}:${i + 1}`] : [])),
  );
}

describe("size", () => {
  const isComment = (line: string) => /^\s*(?:\/\/|\/?\*)/.test(line);
  /** Text and patterns cannot always be broken: the formatter leaves them alone, and so does this. */
  const isLiteral = (line: string) => /["'`/]/.test(line);

  test("code stays within 100 columns, comments within 120", () => {
    expect(
      linesOf(sources, (line) => line.length > (isComment(line) || isLiteral(line) ? 120 : 100)),
    ).toEqual([]);
  });

  test("a file of the program has at most 330 lines, one of the tests 500", () => {
    const most = (path: string) => (path.startsWith("src/") ? 330 : 500);
    const long = everything.filter(({ path, lines }) => lines.length - 1 > most(path));

    expect(long.map(({ path, lines }) => `${path}: ${lines.length - 1}`)).toEqual([]);
  });
});

/** Folders of src, each with those that it may import from beside itself. */
const below: Record<string, readonly string[]> = {
  ffi: [],
  bus: ["ffi"],
  devices: ["bus", "ffi"],
  firmware: ["src/ffi/struct.ts", "bus"],
  machine: ["firmware", "devices", "bus", "ffi", "leaf"],
  http: ["machine", "devices", "bus", "ffi", "leaf"],
  cli: ["http", "machine", "devices", "bus", "ffi", "leaf"],
  // it drives chv from outside: the protocol, the words of the command line and of its end
  sdk: ["src/cli/run/protocol.ts", "src/cli/run/verdict.ts", "src/cli/split.ts"],
};
/** Files of src itself that machine and those above it may use. */
const leaves = ["compile-late", "exit-codes", "jit-policy", "log", "workers"].map(
  (name) => `src/${name}.ts`,
);

const folderOf = (path: string): string => (path.split("/").length > 2 ? path.split("/")[1]! : "");
const isOurs = (name: string) => name.startsWith("src/");
/** What is imported, and is no source. */
const isData = (name: string) => /\.(?:json|py|sh)$/.test(name);

describe("imports", () => {
  test("point down", () => {
    const wrong: string[] = [];
    for (const { path, mentions } of sources) {
      const folder = folderOf(path);
      if (folder === "") continue;
      const allowed = below[folder];
      if (allowed === undefined) wrong.push(`${path}: the folder has no place`);
      for (const target of mentions.filter(isOurs)) {
        const to = leaves.includes(target) ? "leaf" : folderOf(target);
        if (to === folder || allowed?.includes(to) || allowed?.includes(target)) continue;
        wrong.push(`${path} imports ${target}`);
      }
    }

    expect(wrong).toEqual([]);
  });

  test("of the leaves are the lowest there are", () => {
    const most = [
      "src/bus/call-site.ts",
      "src/bus/events.ts",
      "src/exit-codes.ts",
      "src/ffi/",
      "src/jit-policy.ts",
    ];
    const wrong = leaves.flatMap((path) =>
      byPath
        .get(path)!
        .mentions.filter((name) => isOurs(name) && !most.some((start) => name.startsWith(start))),
    );

    expect(wrong).toEqual([]);
  });

  test("name files with their ending, and only files that are there", () => {
    const missing = sources.flatMap(({ path, mentions }) =>
      mentions
        .filter((name) => isOurs(name) && !isData(name) && !byPath.has(name))
        .map((name) => `${path} imports ${name}`),
    );

    expect(missing).toEqual([]);
  });

  test("of bun:ffi are in src/ffi alone, and addresses are taken in one file", () => {
    const ffi = everything.filter(({ mentions }) => mentions.includes("bun:ffi"));
    expect(ffi.map(({ path }) => path).filter((path) => !path.startsWith("src/ffi/"))).toEqual([]);

    const taken = linesOf(everything, (line) => /(?<![\w.`"])ptr\((?!\))/.test(line));
    const outside = taken.filter((place) => !place.startsWith("src/ffi/block.ts:"));
    expect(outside.filter((place) => !place.startsWith("test/tidy.test.ts:"))).toEqual([]);
  });

  test("go round in no circle, not for types either", () => {
    const done = new Set<string>();
    const circles: string[] = [];
    const visit = (path: string, way: readonly string[]): void => {
      if (way.includes(path)) circles.push([...way.slice(way.indexOf(path)), path].join(" → "));
      if (done.has(path) || way.includes(path)) return;
      for (const next of byPath.get(path)?.mentions ?? []) visit(next, [...way, path]);
      done.add(path);
    };
    for (const { path } of sources) visit(path, []);

    expect(circles).toEqual([]);
  });
});

/** Every file and package that is loaded when `path` is. */
function reachable(
  paths: readonly string[],
  edge: "imports" | "statics" | "mentions",
): Set<string> {
  const found = new Set<string>();
  const visit = (name: string): void => {
    if (found.has(name)) return;
    found.add(name);
    for (const next of byPath.get(name)?.[edge] ?? []) visit(next);
  };
  for (const path of paths) visit(path);
  return found;
}

/** The entries of the worker threads, as src/workers.ts names them. */
const workers = [
  ...byPath
    .get("src/workers.ts")!
    .lines.join("\n")
    .matchAll(/new URL\("(.*?)"/g),
].map(([, name]) => join("src", name!));

test("the workers are those of the vCPUs and of input and output", () => {
  expect(workers.length).toBeGreaterThanOrEqual(2);
  for (const path of workers) expect(byPath.has(path)).toBe(true);
});

/** Beginnings of paths whose files the program is about to use; each goes from here with the commit that uses it. */
const arriving = [
  "src/devices/images/",
  "src/devices/virtio/",
  "src/ffi/file-vector.ts",
  "src/ffi/io-uring",
  "src/ffi/iovec.ts",
];

test("every file is part of the program", () => {
  const entries = ["src/main.ts", "src/workers.ts", "src/sdk/index.ts", ...workers];
  const used = reachable(entries, "mentions");
  const unused = sources
    .map(({ path }) => path)
    .filter((path) => !used.has(path) && !path.endsWith(".d.ts"));

  expect(unused.filter((path) => !arriving.some((start) => path.startsWith(start)))).toEqual([]);
});

test.each(workers)("%s loads nothing that only the main thread needs", (path) => {
  const heavy = ["valibot", "citty", "hono", "consola"];
  const wrong = [...reachable([path], "imports")].filter(
    (name) =>
      heavy.some((other) => name === other || name.startsWith(`${other}/`)) ||
      /^src\/(?:cli|http(?!\/s(?:erver\/|ocket-worker))|machine\/config)\//.test(name),
  );

  expect(wrong).toEqual([]);
});

test("every worker compiles late from its first import on", () => {
  const first = workers.map((path) => byPath.get(path)!.mentions[0]);
  expect(first.length).toBe(5);
  expect(new Set(first)).toEqual(new Set(["src/compile-late.ts"]));
});

/** The runtime's own modules are sources, compiled as they are imported: `node:fs` takes 1.5 ms. */
test.each([
  "src/cli/main.ts",
  "src/machine/first-vcpu-worker.ts",
  "src/machine/vcpu-worker.ts",
  "src/machine/io-worker.ts",
])("%s starts without modules of Node's", (path) => {
  const wrong = [...reachable([path], "statics")].filter((name) => name.startsWith("node:"));

  expect(wrong).toEqual([]);
});

test("nothing is left for later, and the types hold", () => {
  const words = ["TO" + "DO", "FIX" + "ME", "X".repeat(3)].map((word) => `\\b${word}\\b`);
  const holes = ["as any\\b", "@ts-ig" + "nore", "@ts-expect-" + "error", "test\\.(?:todo|only)"];
  const pattern = new RegExp([...words, ...holes].join("|"));

  expect(
    linesOf(everything, (line, { path }) => path !== "test/tidy.test.ts" && pattern.test(line)),
  ).toEqual([]);
});
