/** What came of a run, for other programs: `--result` (JSON) and `--junit`. */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Phase, Verdict } from "./verdict.ts";

export interface Report {
  readonly verdict: Verdict;
  readonly phase: Phase;
  readonly image?: string | undefined;
  readonly command: readonly string[];
  /** Milliseconds from the start of the process to each phase, and to the end. */
  readonly timings: Readonly<Record<string, number>>;
  /** The last lines of the consoles. */
  readonly console: readonly string[];
}

/** `--result`'s object. */
export function resultOf({ verdict, phase, image, command, timings, console }: Report): object {
  const { status, by, reason, message, signal, panic } = verdict;
  return {
    ...{ reason, status, status_by: by, message: message ?? null, phase },
    ...{ signal: signal ?? null, panic: panic ?? null, image: image ?? null, command },
    ...{ timings_ms: timings, console },
  };
}

const escapes: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
};

/** Text that XML can hold: most control characters have no place in it. */
const xml = (text: string): string =>
  text
    .replace(/[^\t\n\r\x20-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, "?")
    .replace(/[&<>"]/g, (c) => escapes[c]!);

/** One test case: the run. */
export function junitOf({ verdict, image, command, timings, console }: Report): string {
  const seconds = ((timings.end ?? 0) / 1000).toFixed(3);
  const name = xml(command.length > 0 ? command.join(" ") : (image ?? "chv run"));
  const failed = verdict.status !== 0;
  const element = verdict.by === "guest" ? "failure" : "error";
  const message = xml(verdict.message ?? `exit status ${verdict.status}`);
  const [failures, errors] = [failed && element === "failure", failed && element === "error"];
  const counts = `tests="1" failures="${Number(failures)}" errors="${Number(errors)}" time="${seconds}"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites ${counts}>`,
    `<testsuite name="chv run" ${counts}>`,
    `<testcase classname="${xml(image ?? "chv")}" name="${name}" time="${seconds}">`,
    ...(failed ? [`<${element} type="${verdict.reason}" message="${message}"/>`] : []),
    `<system-out>${xml(console.join("\n"))}</system-out>`,
    "</testcase>",
    "</testsuite>",
    "</testsuites>",
    "",
  ].join("\n");
}

/** Writes a file whole or not at all; undefined, or why it could not. */
export function writeWhole(path: string, text: string): string | undefined {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}`);
  try {
    const fd = openSync(temporary, "w", 0o644);
    try {
      const bytes = Buffer.from(text);
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
    return undefined;
  } catch (error) {
    rmSync(temporary, { force: true });
    return `${path}: ${(error as { code?: string }).code ?? (error as Error).message}`;
  }
}

/** Both files, as far as they are wanted. The first error, for a line on stderr. */
export function writeReports(
  files: { readonly result?: string | undefined; readonly junit?: string | undefined },
  report: Report,
): string | undefined {
  const { result, junit } = files;
  let problem: string | undefined;
  if (result !== undefined) {
    const failed = writeWhole(result, `${JSON.stringify(resultOf(report), null, 1)}\n`);
    if (failed !== undefined) problem = `--result ${failed}`;
  }
  if (junit !== undefined) {
    const failed = writeWhole(junit, junitOf(report));
    if (failed !== undefined) problem ??= `--junit ${failed}`;
  }
  return problem;
}
