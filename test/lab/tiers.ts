/**
 * `./dev test`: runs the tiers one after another with Bun's test runner and sums up what its JUnit
 * reports say. A file or two with failures have a second run, by themselves; what passed there is
 * named all the same, as unsteady. The last lines name what failed, and then come "N passed,
 * N failed, N skipped"; the status is 1 if anything failed or if no test ran.
 */

import { mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { cache, root } from "./paths.ts";
import { type Counts, countsOf, type Failure, failuresOf, filesOf } from "./report.ts";
import { ensureLab } from "./run.ts";

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
  unit: 60_000,
  guest: 120_000,
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

interface Outcome {
  readonly counts: Counts;
  readonly failures: readonly Failure[];
  /** Files that a runner did not come to the end of, as when it died; it has counted none of their tests. */
  readonly lost: readonly (readonly string[])[];
}

/** One tier: several runners, of which the first is heard at once and the others when they have ended. */
async function runTier(tier: Tier, files: readonly string[]): Promise<Outcome> {
  const length = (file: string) => statSync(`${root}/${file}`).size;
  const most = Math.min(4, runners[tier]);
  const shares = sharesOf(files, length, most === 1 ? 1 : most * sharesEach);
  const all: Outcome[] = [];
  let next = 0;
  const work = async () => {
    for (let share = next++; share < shares.length; share = next++) {
      all.push(await runShare(tier, shares[share]!, share));
    }
  };
  await Promise.all(Array.from({ length: most }, work));
  const sum = (key: keyof Counts) => all.reduce((total, { counts }) => total + counts[key], 0);
  return {
    counts: { passed: sum("passed"), failed: sum("failed"), skipped: sum("skipped") },
    failures: all.flatMap(({ failures }) => failures),
    lost: all.flatMap(({ lost }) => lost),
  };
}

/** One runner. A file that is not in its report, as one that does not load, counts as a failed test. */
async function runShare(tier: Tier, files: readonly string[], share: number): Promise<Outcome> {
  const report = `${cache}/test/${tier}.${process.pid}.${share}.xml`;
  const command = [process.execPath, "test", "--timeout", String(timeouts[tier])];
  command.push("--reporter=junit", `--reporter-outfile=${report}`);
  const child = Bun.spawn([...command, ...files.map((file) => `./${file}`)], {
    cwd: root,
    env: { ...process.env, ...(tier === "fuzz" ? { CHV_SEED: "random" } : {}) },
    stdio: share === 0 ? ["ignore", "inherit", "inherit"] : ["ignore", "pipe", "pipe"],
    detached: true, // a group of its own, with what its tests start
  });
  running.add(child);
  const said = share === 0 ? [] : [child.stdout, child.stderr].map((pipe) => readAll(pipe));
  const status = await child.exited;
  running.delete(child);
  for (const text of await Promise.all(said)) process.stderr.write(text);
  let text = "";
  try {
    text = readFileSync(report, "utf8");
    rmSync(report);
  } catch {
    console.error(`test: ${tier}: the runner left no report (status ${status})`);
  }
  const counts = countsOf(text) ?? { passed: 0, failed: 0, skipped: 0 };
  const seen = filesOf(text);
  const lost = files.filter((file) => !seen.has(file));
  const message = `did not come to its end (status ${status})`;
  const unseen = lost.map((file) => ({ file, name: "(all of it)", message }));
  const failed = counts.failed + unseen.length;
  return {
    counts: { ...counts, failed: status !== 0 ? Math.max(1, failed) : failed },
    failures: [...failuresOf(text), ...unseen],
    lost: lost.length > 0 ? [lost] : [],
  };
}

/** So many files with failures in a tier, or runners that died, are tried once more. */
const mostAgain = 2;

/**
 * Tries a tier's failed files again, each by itself, and what a runner has not come to the end of. What does not fail
 * again is counted as passed; what is left of the outcome is what failed twice. Fuzzing draws other cases each time.
 */
async function secondRun(tier: Tier, first: Outcome): Promise<Outcome> {
  const { lost } = first;
  const alone = new Set(first.failures.map(({ file }) => file)).difference(new Set(lost.flat()));
  const groups = [...lost, ...[...alone].map((file) => [file])];
  if (tier === "fuzz" || first.counts.failed !== first.failures.length) return first;
  if (groups.length > mostAgain) return first;
  let { counts, failures } = first;
  for (const group of groups) {
    console.error(`test: ${tier}: once more: ${group.join(" ")}`);
    const again = await runShare(tier, group, 0);
    if (again.counts.failed > 0) continue;
    const steady = failures.filter(({ file }) => !group.includes(file));
    const mended = failures.length - steady.length;
    const passed = lost.includes(group) ? again.counts.passed : mended;
    counts = { ...counts, passed: counts.passed + passed, failed: counts.failed - mended };
    failures = steady;
  }
  return { counts, failures, lost };
}

const said = ({ passed, failed, skipped }: Counts) =>
  `${passed} passed, ${failed} failed, ${skipped} skipped`;

const tell = (what: string, { file, name, message }: Failure) =>
  console.error(`test: ${what}: ${file}: ${name}: ${message}`);

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
  const [unsteady, failed]: [Failure[], Failure[]] = [[], []];
  for (const tier of tiers) {
    const own = files.filter((file) => tierOf(file) === tier || (tier === "fuzz" && draws(file)));
    const startedMs = Date.now();
    if (own.length === 0) {
      console.error(`test: ${tier}: there are no tests`);
      continue;
    }
    if (tier === "linux" || tier === "large" || tier === "images") ensureLab();
    const first = await runTier(tier, own);
    const { counts, failures } = await secondRun(tier, first);
    const seconds = ((Date.now() - startedMs) / 1000).toFixed(1);
    console.error(`test: ${tier}: ${said(counts)}, ${seconds} s`);
    unsteady.push(...first.failures.filter((failure) => !failures.includes(failure)));
    failed.push(...failures);
    total.passed += counts.passed;
    total.failed += counts.failed;
    total.skipped += counts.skipped;
  }
  for (const failure of unsteady) tell("unsteady, passed when it was run again", failure);
  for (const failure of failed) tell("failed", failure);
  console.log(said(total));
  return total.failed === 0 && total.passed > 0 ? 0 : 1;
}

if (import.meta.main) {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      for (const { pid } of running) process.kill(-pid, signal);
      process.exit(signal === "SIGINT" ? 130 : 143); // a lab started here is stopped on "exit"
    });
  }
  process.exit(await main(process.argv.slice(2) as Tier[]));
}
