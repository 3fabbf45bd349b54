/** `--result` and `--junit` of a run that never began: its command line cannot be read, or the machine not be built. */
import { writeReports } from "./report.ts";
import { failure } from "./verdict.ts";

/** The value of an option in argv, wherever it stands before `--`. */
function optionValue(argv: readonly string[], name: string): string | undefined {
  const end = argv.indexOf("--");
  const words = end < 0 ? argv : argv.slice(0, end);
  for (const [i, word] of words.entries()) {
    if (word === name) return words[i + 1];
    if (word.startsWith(`${name}=`)) return word.slice(name.length + 1);
  }
  return undefined;
}

/** Writes what is asked for, if this is a run; does not throw. */
export function reportEarly(argv: readonly string[], status: number, message: string): void {
  const files = { result: optionValue(argv, "--result"), junit: optionValue(argv, "--junit") };
  if (files.result === undefined && files.junit === undefined) return;
  const end = argv.indexOf("--");
  writeReports(files, {
    verdict: failure(status, message),
    phase: "starting",
    command: end < 0 ? [] : argv.slice(end + 1),
    timings: { end: Math.round(performance.now()) },
    console: [],
  });
}
