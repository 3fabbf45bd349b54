/** A stock kernel drives the watchdog and pvpanic: the first boot hangs, the second one panics. */
import { describe, expect } from "bun:test";
import { readdirSync } from "node:fs";
import { cache } from "../lab/paths.ts";
import { guestTest, shared } from "./guest.ts";
import { writeInitramfs } from "./initramfs/build.ts";

const modules = ["watchdog", "wdat_wdt", "pvpanic", "pvpanic-pci"];

function initramfs(): string {
  const folder = `${cache}/kernels/6.12-cloud/modules`;
  const all = readdirSync(folder, { recursive: true, encoding: "utf8" });
  const file = `${cache}/e2e/watchdog.cpio`;
  writeInitramfs(file, {
    modules: modules.map((name) => `${folder}/${all.find((one) => one.endsWith(`/${name}.ko`))}`),
  });
  return file;
}

const guest = shared("watchdog", () => ({
  boots: 2,
  initramfs: initramfs(),
  run: [
    `load ${modules.join(" ")}`,
    "cd /sys/class/watchdog/watchdog0",
    "status=$(cat bootstatus)",
    "echo $(cat identity) bootstatus $status timeout $(cat timeout)",
    // WDIOF_CARDRESET is 0x20: the card has reset the machine before
    'if [ "$status" = 0 ]; then watchdog -F -T 2 -t 3600 /dev/watchdog0 & sleep 3600; fi',
  ].join("\n"),
  end: "panic" as const,
  more: ["--watchdog", "--pvpanic"],
}));

describe("a watchdog that nobody feeds", () => {
  guestTest("is found by its table, with the driver's 30 s", async () => {
    expect((await guest()).stdout).toContain("wdat_wdt bootstatus 0 timeout 30");
  });

  guestTest("resets the machine, and says so in its status and in an event", async () => {
    const { stdout, stderr, events, files } = await guest();
    expect(stdout).toContain("wdat_wdt bootstatus 32");
    const before = events.slice(0, events.indexOf("guest/panic"));
    expect(before.filter((event) => event === "vm/reset")).toHaveLength(1);
    expect(files.events).toContain('"source":"watchdog"');
    expect(stderr).toContain("the watchdog has fired: the machine is reset");
  });
});

describe("a panic", () => {
  guestTest("is an event with the console's last lines, and exit code 245", async () => {
    const { code, stdout, events, files } = await guest();
    expect(stdout).toContain("Kernel panic - not syncing: sysrq triggered crash");
    expect(events.filter((event) => event === "guest/panic")).toHaveLength(1);
    const line = files.events!.split("\n").find((text) => text.includes('"event":"panic"'))!;
    const { serial } = JSON.parse(line).properties.last_lines as { serial: string[] };
    expect(serial.length).toBeGreaterThan(10);
    for (const said of serial) expect(stdout).toContain(said); // the end of what follows that line
    expect(code).toBe(245);
  });
});
