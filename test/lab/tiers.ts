/**
 * `./dev test`: runs the tiers one after another with Bun's test runner and sums up what its JUnit
 * reports say. The last line is "N passed, N failed, N skipped"; the status is 1 if anything failed
 * or if no test ran.
 */

import { mkdirSync, readFileSync, rmSync } from "node:fs";
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

/** One tier. A runner that fails without a failed test (a file that does not load) counts as one. */
async function runTier(tier: Tier, files: readonly string[]): Promise<Counts> {
  const report = `${cache}/test/${tier}.${process.pid}.xml`;
  const command = [process.execPath, "test", "--timeout", String(timeouts[tier])];
  command.push("--reporter=junit", `--reporter-outfile=${report}`);
  const child = Bun.spawn([...command, ...files.map((file) => `./${file}`)], {
    cwd: root,
    env: { ...process.env, ...(tier === "fuzz" ? { CHV_SEED: "random" } : {}) },
    stdio: ["ignore", "inherit", "inherit"],
  });
  running = child;
  const status = await child.exited;
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

let running: Bun.Subprocess | undefined;

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
    if (tier === "linux" || tier === "large") ensureLab();
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
      running?.kill(signal);
      process.exit(signal === "SIGINT" ? 130 : 143); // a lab started here is stopped on "exit"
    });
  }
  process.exit(await main(process.argv.slice(2) as Tier[]));
}
