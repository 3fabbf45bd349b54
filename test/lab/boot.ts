/**
 * `./dev boot [--kernel FILE] [-- MORE…]`: boots a kernel with the guests' initramfs, shows its
 * console, runs a script in it, powers off and prints the timeline. MORE goes to chv as it is.
 */

import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { guestScript } from "../e2e/initramfs/build.ts";
import { hangUp } from "./client.ts";
import { cache, initramfsFile, kernelFile, root } from "./paths.ts";
import { direct, ensureLab, labRun, pathInside } from "./run.ts";
import { bootTimeline, formatTimeline } from "./timeline.ts";

const script = "uname -a; nproc; cat /proc/interrupts";
/** On emulated processors string instructions and mitigations cost most of a boot. */
const labWords = "clearcpuid=rep_good init_on_alloc=0 mitigations=off tsc=reliable";

function commandLine(kernel: string, events: string, more: readonly string[]): string[] {
  const words = ["console=ttyS0", "panic=-1", ...(direct ? [] : [labWords]), guestScript(script)];
  return [
    `${root}/dist/chv`,
    ...["--kernel", pathInside(kernel), "--initramfs", initramfsFile, "--cmdline", words.join(" ")],
    ...["--cpus", "boot=1", "--memory", "size=512M", "--serial", "tty", "--console", "off"],
    ...["--event-monitor", `path=${events}`, ...more],
  ];
}

const quote = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`;

async function main(): Promise<number> {
  const words = process.argv.slice(2);
  const cut = words.indexOf("--");
  const own = cut < 0 ? words : words.slice(0, cut);
  const { values } = parseArgs({ args: own, options: { kernel: { type: "string" } } });
  const kernel = resolve(values.kernel ?? kernelFile("6.12-cloud", "vmlinuz"));
  const folder = `${cache}/boot`;
  const events = `${folder}/events-${process.pid}.ndjson`;
  mkdirSync(folder, { recursive: true });
  ensureLab();
  console.error(`dev: booting ${kernel} ${direct ? "on this machine" : "in the lab"}`);
  const command = commandLine(kernel, events, cut < 0 ? [] : words.slice(cut + 1));
  try {
    const { code } = await labRun(command.map(quote).join(" "), {
      timeoutMs: 300_000,
      onOutput: (data) => void process.stdout.write(data),
    });
    if (code !== 0) {
      console.error(`dev: boot: chv ended with ${code}`);
      return code;
    }
    console.log(formatTimeline(bootTimeline(readFileSync(events, "utf8"))));
    return 0;
  } finally {
    rmSync(events, { force: true });
  }
}

/** The exit stops a lab that was started here, if nothing runs there any more. */
async function leave(status: number): Promise<never> {
  await hangUp();
  process.exit(status);
}
process.on("SIGINT", () => leave(130));
process.on("SIGTERM", () => leave(143));
try {
  process.exitCode = await main();
} catch (error) {
  console.error(`dev: boot: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
