/**
 * What a thread loads at its start, in few files. Bun's splitting puts modules into one file when the same entries reach
 * them; every `require`, and every `import()` of a worker too, counts, so that the main thread's first hundred modules
 * came out as 46 files, each of which is looked up, made and linked by itself. A prelude is an import of modules that a
 * thread has loaded by then in any case, put in front of other entries: the same entries reach them, and they make one
 * file.
 */

import { existsSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";

/** Files, by what they import at once and what only when it is asked for (`import()`, `require`). */
type Graph = ReadonlyMap<
  string,
  { readonly now: readonly string[]; readonly later: readonly string[] }
>;

/** `main`: in front of what only the main thread loads; `all`: in front of everything else too. */
export interface Preludes {
  readonly all: readonly string[];
  readonly main: readonly string[];
  /** The preludes in front of an entry. */
  of(entry: string): readonly (readonly string[])[];
}

/** `loader` is the main thread's first file and imports `program`; `workers` are the entries of the other threads. */
export function preludesOf(loader: string, program: string, workers: readonly string[]): Preludes {
  const graph = graphOf([loader, program, ...workers]);
  const before = closure(graph, [loader], false);
  const inProgram = [...closure(graph, [program], false)];
  const inWorkers = closure(graph, workers, false);
  const everInWorkers = closure(graph, workers, true);
  const late = inProgram.filter((file) => file !== program && !before.has(file));
  const all = late.filter((file) => inWorkers.has(file));
  const main = late.filter((file) => !everInWorkers.has(file));
  const entries = new Set([program, ...workers]);
  for (const { later } of graph.values()) for (const file of later) entries.add(file);
  return {
    all,
    main,
    of(entry) {
      if (entry === loader || !entries.has(entry)) return [];
      return everInWorkers.has(entry) ? [all] : [all, main];
    },
  };
}

/** Puts the preludes in front of the entries, in a build. */
export function preludePlugin(preludes: Preludes): Bun.BunPlugin {
  const name = (files: readonly string[]) => (files === preludes.all ? "all" : "main");
  const namespace = "chv-prelude";
  return {
    name: namespace,
    setup(build) {
      build.onResolve({ filter: /^chv-prelude:/ }, ({ path }) => {
        return { path: path.slice(namespace.length + 1), namespace };
      });
      build.onLoad({ filter: /./, namespace }, ({ path }) => {
        const files = path === "all" ? preludes.all : preludes.main;
        return { contents: importsOf(files), loader: "js" };
      });
      build.onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => {
        const before = preludes.of(path).map((files) => `${namespace}:${name(files)}`);
        // on the first line, so that every other line keeps its number
        return { contents: importsOf(before, " ") + readFileSync(path, "utf8"), loader: "ts" };
      });
    },
  };
}

const importsOf = (files: readonly string[], end = "\n") =>
  files.map((file) => `import ${JSON.stringify(file)};${end}`).join("");

/** Every file of the project that is reached from `roots`. A package comes with those who import it. */
function graphOf(roots: readonly string[]): Graph {
  const scanner = new Bun.Transpiler({ loader: "ts" });
  const graph = new Map<string, { now: string[]; later: string[] }>();
  const visit = (file: string) => {
    if (graph.has(file)) return;
    const node = { now: [] as string[], later: [] as string[] };
    graph.set(file, node);
    if (!file.endsWith(".ts")) return;
    for (const { kind, path } of scanner.scanImports(readFileSync(file, "utf8"))) {
      const target = resolve(dirname(file), path);
      if (!path.startsWith(".") || !existsSync(target)) continue;
      node[kind === "import-statement" ? "now" : "later"].push(target);
      visit(target);
    }
  };
  for (const root of roots) visit(root);
  return graph;
}

/** `roots`, and what they reach, in the order in which they are evaluated. */
function closure(graph: Graph, roots: readonly string[], withLater: boolean): Set<string> {
  const seen = new Set<string>();
  const done = new Set<string>();
  const visit = (file: string) => {
    if (seen.has(file)) return;
    seen.add(file);
    const { now, later } = graph.get(file)!;
    for (const next of now) visit(next);
    if (withLater) for (const next of later) visit(next);
    done.add(file);
  };
  for (const root of roots) visit(root);
  return done;
}
