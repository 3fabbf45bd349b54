/**
 * The main thread: reads the command line, runs what it asks for, and turns whatever goes wrong into one line and an
 * exit code.
 */

import "../compile-late.ts";
import { ExitCode } from "../exit-codes.ts";
import { monotonicNs } from "../ffi/clock.ts";
import { levelOf, log, printable } from "../log.ts";
import type { VmmOptions } from "../machine/config/vmm.ts";
import { runBoot } from "./boot.ts";
import { parseCommandLine } from "./command-line.ts";
import type * as Early from "./run/early.ts";

/** When the runtime started, on the monotonic clock. */
const startNs = monotonicNs() - performance.now() * 1e6;

function openLog({ verbosity, logFormat, logFile }: VmmOptions): void {
  log.setLevel(levelOf(verbosity));
  log.setFormat(logFormat);
  if (logFile !== undefined) log.openFile(logFile);
}

async function main(): Promise<number> {
  const line = parseCommandLine(process.argv.slice(2));
  switch (line.kind) {
    case "print":
      process.stdout.write(`${await line.text()}\n`);
      return line.exitCode;
    case "command":
      openLog(line.options);
      return line.run();
    case "boot":
      openLog(line.options);
      return runBoot(line.config, line.options, startNs);
    case "serve":
      openLog(line.options);
      return runBoot(undefined, line.options, startNs);
  }
}

/** One line, and out. What has no exit code of its own is chv's own fault: its stack goes to the log. */
function fail(error: unknown): never {
  const { message, exitCode = ExitCode.internal, stack } = error as Error & { exitCode?: number };
  if (exitCode === ExitCode.internal) log.debug(stack ?? message);
  if (process.argv[2] === "run") {
    const { reportEarly } = require("./run/early.ts") as typeof Early;
    reportEarly(process.argv.slice(3), exitCode, String(message));
  }
  process.stderr.write(`chv: ${printable(String(message).replace(/\s+/g, " "))}\n`);
  process.exit(exitCode);
}

process.on("uncaughtException", fail);
process.on("unhandledRejection", fail);
main().then((code) => process.exit(code), fail);
