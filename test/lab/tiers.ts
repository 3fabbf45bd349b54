/**
 * `./dev test`: runs the tiers one after another with Bun's test runner and sums up what its JUnit
 * reports say. The last line is "N passed, N failed, N skipped"; the status is 1 if anything failed
 * or if no test ran.
 */

import { mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { cache, root } from "./paths.ts";
import { ensureLab } from "./run.ts";

interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** Tiers and their folders, the deciding ones first: test/guests/large/ is large. The rest is unit. */
const folders = [
  ["large", "large"],
  ["images", "matrix"],
  ["fuzz", "fuzz"],
  ["guest", "guests"],
  ["linux", "e2e"],
] as const;
type Tier = "unit" | (typeof folders)[number][0];

/** Per test, in milliseconds; emulated guests take tens of seconds on a busy machine. */
const timeouts: Record<Tier, number> = {
  unit: 10_000,
  guest: 60_000,
  linux: 240_000,
  fuzz: 600_000,
  large: 1_200_000,
  images: 1_200_000,
};

/** The tier that a test file, relative to the root, belongs to. */
export function tierOf(file: string): Tier {
  const parents = file.split("/").slice(0, -1);
  return folders.find(([, folder]) => parents.includes(folder))?.[0] ?? "unit";
}

/** The sums of a JUnit report's root element; undefined if it has none. */
export function countsOf(report: string): Counts | undefined {
  const element = /<testsuites\b[^>]*>/.exec(report)?.[0];
  if (!element) return undefined;
  const value = (name: string) => Number(new RegExp(` ${name}="(\\d+)"`).exec(element)?.[1] ?? 0);
  const failed = value("failures") + value("errors");
  const skipped = value("skipped");
  return { passed: value("tests") - failed - skipped, failed, skipped };
}

/** Runners at once: what shares one lab, or wants the machine for itself, has one. */
const runners: Record<Tier, number> = {
  unit: availableParallelism() + 1, // some wait for programs that sleep
  ...{ guest: availableParallelism(), fuzz: availableParallelism() },
  ...{ linux: 1, large: 1, images: 1 },
};

/** Deals files out so that each share has about as much to do, by the files' lengths; none is empty. */
export function sharesOf<T>(
  files: readonly T[],
  length: (file: T) => number,
  count: number,
): T[][] {
  const shares = Array.from({ length: Math.min(count, files.length) }, () => ({
    files: [] as T[],
    length: 0,
  }));
  for (const file of files.toSorted((a, b) => length(b) - length(a))) {
    const least = shares.reduce((a, b) => (b.length < a.length ? b : a));
    least.files.push(file);
    least.length += length(file);
  }
  return shares.map((share) => share.files);
}

/** A file's length says little of how long it takes: who has done with one share takes the next. */
const sharesEach = 3;

/** One tier: several runners, of which the first is heard at once and the others when they have ended. */
async function runTier(tier: Tier, files: readonly string[]): Promise<Counts> {
  const length = (file: string) => statSync(`${root}/${file}`).size;
  const most = Math.min(4, runners[tier]);
  const shares = sharesOf(files, length, most === 1 ? 1 : most * sharesEach);
  const all: Counts[] = [];
  let next = 0;
  const work = async () => {
    for (let share = next++; share < shares.length; share = next++) {
      all.push(await runShare(tier, shares[share]!, share));
    }
  };
  await Promise.all(Array.from({ length: most }, work));
  const sum = (key: keyof Counts) => all.reduce((total, counts) => total + counts[key], 0);
  return { passed: sum("passed"), failed: sum("failed"), skipped: sum("skipped") };
}

/** One runner. One that fails without a failed test (a file that does not load) counts as one. */
async function runShare(tier: Tier, files: readonly string[], share: number): Promise<Counts> {
  const report = `${cache}/test/${tier}.${process.pid}.${share}.xml`;
  const command = [process.execPath, "test", "--timeout", String(timeouts[tier])];
  command.push("--reporter=junit", `--reporter-outfile=${report}`);
  const child = Bun.spawn([...command, ...files.map((file) => `./${file}`)], {
    cwd: root,
    env: { ...process.env, ...(tier === "fuzz" ? { CHV_SEED: "random" } : {}) },
    stdio: share === 0 ? ["ignore", "inherit", "inherit"] : ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  const said = share === 0 ? [] : [child.stdout, child.stderr].map((pipe) => readAll(pipe));
  const status = await child.exited;
  running.delete(child);
  for (const text of await Promise.all(said)) process.stderr.write(text);
  let counts: Counts | undefined;
  try {
    counts = countsOf(readFileSync(report, "utf8"));
    rmSync(report);
  } catch {
    console.error(`test: ${tier}: the runner left no report (status ${status})`);
  }
  counts ??= { passed: 0, failed: 0, skipped: 0 };
  return status !== 0 && counts.failed === 0 ? { ...counts, failed: 1 } : counts;
}

/** Whether a unit test draws its cases: then `fuzz` draws others. */
const draws = (file: string): boolean =>
  tierOf(file) === "unit" && readFileSync(`${root}/${file}`, "utf8").includes('from "fast-check"');

const running = new Set<Bun.Subprocess>();

const readAll = (pipe: unknown): Promise<string> =>
  pipe instanceof ReadableStream ? new Response(pipe).text() : Promise.resolve("");

async function main(tiers: readonly Tier[]): Promise<number> {
  mkdirSync(`${cache}/test`, { recursive: true });
  const files = [...new Bun.Glob("test/**/*.test.ts").scanSync(root)].sort();
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const tier of tiers) {
    const own = files.filter((file) => tierOf(file) === tier || (tier === "fuzz" && draws(file)));
    const startedMs = Date.now();
    if (own.length === 0) {
      console.error(`test: ${tier}: there are no tests`);
      continue;
    }
    if (tier === "linux" || tier === "large" || tier === "images") ensureLab();
    const counts = await runTier(tier, own);
    const seconds = ((Date.now() - startedMs) / 1000).toFixed(1);
    const { passed, failed, skipped } = counts;
    console.error(
      `test: ${tier}: ${passed} passed, ${failed} failed, ${skipped} skipped, ${seconds} s`,
    );
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
  }
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  return total.failed === 0 && total.passed > 0 ? 0 : 1;
}

if (import.meta.main) {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      for (const child of running) child.kill(signal);
      process.exit(signal === "SIGINT" ? 130 : 143); // a lab started here is stopped on "exit"
    });
  }
  process.exit(await main(process.argv.slice(2) as Tier[]));
}
