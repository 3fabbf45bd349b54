import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseCommandLine } from "../../src/cli/command-line.ts";
import { Machine } from "../../src/machine/machine.ts";
import { buildGuest } from "./build.ts";
import { expectOk, guestTests, guestTimeoutMs, runSuite } from "./harness.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-watchdog-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("the watchdog", () => {
  guestTests(["watchdog-registers"], { args: ["--watchdog"] });

  test(
    "resets a guest that does not answer, and an event says so",
    async () => {
      const run = await runSuite("watchdog-fires", { args: ["--watchdog"] });

      expect(run.stderr).toContain("the watchdog has fired: the machine is reset");
      expectOk("watchdog-fires", { ...run, stderr: "" });
      expect(run.stdout.match(/first boot/g)?.length).toBe(1);
      const resets = run.events.filter(({ event }) => event === "reset");
      expect(resets.map(({ properties }) => properties)).toEqual([{ source: "watchdog" }]);
    },
    guestTimeoutMs,
  );

  test(
    "its time stands still with the machine's, and goes on with it",
    async () => {
      const output = join(folder, "output");
      const kernel = await buildGuest("suite");
      const line = parseCommandLine([
        ...["--kernel", kernel, "--cmdline", "test=watchdog-held", "--watchdog"],
        ...["--serial", `file=${output}`, "--console", "off"],
      ]);
      if (line.kind !== "boot") throw new Error("not a boot");
      const machine = new Machine(line.config, { onEvent() {}, onNote() {} });
      machine.boot();
      while (!readFileSync(output, "utf8").includes("running")) await Bun.sleep(2);
      expect(armedSeconds()).toBeGreaterThan(3000);

      await machine.pause();
      expect(armedSeconds()).toBeLessThan(1000);
      await machine.resume();

      expect(armedSeconds()).toBeGreaterThan(3000);
      await machine.stop();
    },
    guestTimeoutMs,
  );
});

/** What the timerfds of this process have left, in s, at most: an armed watchdog's is the largest by far. */
function armedSeconds(): number {
  let seconds = 0;
  for (const fd of readdirSync("/proc/self/fdinfo")) {
    let text = "";
    try {
      text = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
    } catch {
      continue; // the one that lists them
    }
    const [, left] = /^it_value: \((\d+), /m.exec(text) ?? [];
    seconds = Math.max(seconds, Number(left ?? 0));
  }
  return seconds;
}
