/** What came of a run, for other programs: `--result` (JSON) and `--junit`. */
import {
  accessSync,
  closeSync,
  constants,
  fsyncSync,
  lstatSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { ConfigError } from "../../exit-codes.ts";
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

/** Something else than a file stands there (a pipe, a terminal, a link such as /dev/stdout): it must stay. */
function isSpecial(path: string): boolean {
  const status = lstatSync(path, { throwIfNoEntry: false });
  return status !== undefined && !status.isFile();
}

/** Writes a file whole or not at all, and anything else as it takes it; undefined, or why it could not. */
export function writeWhole(path: string, text: string): string | undefined {
  if (isSpecial(path)) return writeTo(path, path, text);
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}`);
  const problem = writeTo(temporary, path, text, () => renameSync(temporary, path));
  if (problem !== undefined) rmSync(temporary, { force: true });
  return problem;
}

function writeTo(target: string, shown: string, text: string, then?: () => void) {
  try {
    const fd = openSync(target, "w", 0o644);
    try {
      const bytes = Buffer.from(text);
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
      if (then) fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    then?.();
    return undefined;
  } catch (error) {
    return `${shown}: ${(error as { code?: string }).code ?? (error as Error).message}`;
  }
}

interface ReportFiles {
  readonly result?: string | undefined;
  readonly junit?: string | undefined;
}

/** Before a long run: the files can be written. Throws ConfigError. */
export function checkReports({ result, junit }: ReportFiles): void {
  for (const [option, path] of [
    ["--result", result],
    ["--junit", junit],
  ] as const) {
    if (path === undefined) continue;
    try {
      accessSync(isSpecial(path) ? path : dirname(path), constants.W_OK);
      if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw { code: "EISDIR" };
    } catch (error) {
      const { code } = error as { code?: string };
      const why = `${code}; name a file in a folder that this user may write`;
      throw new ConfigError(`${option} ${path}: ${why}`, option);
    }
  }
}

/** Both files, as far as they are wanted. The first error, for a line on stderr. */
export function writeReports(files: ReportFiles, report: Report): string | undefined {
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
