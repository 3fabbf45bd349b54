/** What a run makes of console lines, and what it tells other programs. */
import { describe, expect, test } from "bun:test";
import { plainLine } from "../../../src/cli/run/console-text.ts";
import { diagnose } from "../../../src/cli/run/diagnosis.ts";
import { Expectations, readSteps } from "../../../src/cli/run/expectations.ts";
import { durationMs } from "../../../src/cli/run/options.ts";
import { junitOf, type Report, resultOf } from "../../../src/cli/run/report.ts";

function expectations(options: object, failOn: readonly string[] = []) {
  const log: string[] = [];
  const told = new Expectations(
    readSteps(options as never),
    failOn,
    (console, text) => void log.push(`${console} < ${JSON.stringify(text)}`),
    () => void log.push("met"),
    () => void log.push("failed"),
  );
  return { log, told };
}

describe("steps", () => {
  test("are taken in order, each line for one of them", () => {
    const { log, told } = expectations({
      expect: ["login:", "# $", "x"],
      send: ["root", "exit\\x04"],
    });

    told.heard("serial", "a login: ", false);
    told.heard("serial", "a login: root", false);
    told.heard("serial", "a login: root", true);
    expect(log).toEqual(['serial < "root\\r"']);
    told.heard("console", "# ", false);
    expect(log.at(-1)).toBe('console < "exit\\u0004"');
    expect(told.open).toBe("x");
    told.heard("serial", "y", true);
    told.heard("serial", "x", true);
    expect([log.at(-1), told.open]).toEqual(["met", undefined]);
  });

  test("are met by what follows a prompt on its line, and not by the prompt again", () => {
    const { log, told } = expectations({
      ...{ expect: ["login: ", "login: |told", "^x|told two"], send: ["one", "two"] },
    });

    told.heard("serial", "a login: ", false);
    told.heard("serial", "a login: o", false);
    expect(log).toEqual(['serial < "one\\r"']);
    told.heard("serial", "a login: one told", false);
    expect(log).toEqual(['serial < "one\\r"', 'serial < "two\\r"']);
    told.heard("serial", "a login: one told x", false);
    expect(told.open).toBe("^x|told two");
    told.heard("serial", "a login: one told x told two", true);
    expect(log.at(-1)).toBe("met");
  });

  test("that make no sense are errors", () => {
    expect(() => expectations({ expect: ["("] })).toThrow(/--expect "\(": no regular expression/);
    expect(() => expectations({}, ["["])).toThrow(/--fail-on "\[": no regular/);
    expect(() => expectations({ send: ["a"] })).toThrow(/--send without an --expect/);
    expect(() => expectations({ script: "/nowhere" })).toThrow(/--script \/nowhere: ENOENT/);
  });

  test("a line that fails the run is told once, as long as it is", () => {
    const { log, told } = expectations({}, ["oops"]);

    told.heard("serial", "an oops", false);
    told.heard("serial", "an oops here", true);
    told.heard("serial", "oops", true);
    expect([log, told.failure]).toEqual([["failed"], { text: "oops", line: "an oops here" }]);
  });
});

test("a script file says the steps", async () => {
  const path = `/tmp/chv-script-${process.pid}`;
  await Bun.write(path, "# log in\nexpect login: $\nsend root\n\nexpect x\n");
  const steps = readSteps({ script: path } as never);
  await Bun.write(path, "expct a\n");

  expect(steps.map(({ kind, text }) => [kind, text])).toEqual([
    ["expect", "login: $"],
    ["send", "root\r"],
    ["expect", "x"],
  ]);
  expect(() => readSteps({ script: path } as never)).toThrow(/line 1: neither "expect REGEX" nor/);
  await Bun.file(path).delete();
});

test.each([
  ["\x1b[0;1;31mFAILED\x1b[0m unit", "FAILED unit"],
  ["1%\r50%\r100%", "100%"],
  ["a\0b\x07c\td ü", "abc\td ü"],
])("%j reads %j", (line, plain) => {
  expect(plainLine(line)).toBe(plain);
});

describe("a boot that died is told in a line", () => {
  // as Linux 6.1 and initramfs-tools 0.142 say it
  const noRoot = [
    '[    0.9] VFS: Cannot open root device "vda9" or unknown-block(0,0): error -6',
    '[    0.9] Please append a correct "root=" boot option; here are the available partitions:',
    "[    0.9] fe00        10240000 vda ",
    "[    0.9]  driver: virtio_blk",
    "[    0.9]   fe01        10108911 vda1 0b3d1a9b-01",
  ];
  const panic =
    "[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)";

  test.each([
    [panic, noRoot, 245, "root device vda9 not found; disks are vda, vda1"],
    [
      panic,
      ['VFS: Cannot open root device "vda1" or unknown-block(0,0)'],
      245,
      "kernel has no virtio_blk and no initramfs: VFS: Unable to mount root fs on unknown-block(0,0)",
    ],
    [
      "[    3.1] Kernel panic - not syncing: sysrq triggered crash",
      [],
      245,
      "panic: sysrq triggered crash",
    ],
    [
      "ALERT!  LABEL=cloudimg-rootfs does not exist.  Dropping to a shell!",
      ["[    1.1]  vda: vda1 vda14 vda15"],
      243,
      "root device LABEL=cloudimg-rootfs not found; disks are vda",
    ],
    [
      'You are in emergency mode. After logging in, type "journalctl -xb"',
      [],
      243,
      'the guest stopped in its emergency mode: You are in emergency mode. After logging in, type "journalctl -xb"',
    ],
  ])("%s", (line, earlier, status, message) => {
    expect(diagnose(line, earlier)).toMatchObject({ status, message, by: "chv" });
  });

  test.each([
    [{ initramfs: false }, "kernel has no virtio_blk and no initramfs: VFS: Unable to mount"],
    [
      { initramfs: true, cmdline: "root=A root=B" },
      "root device B not found; the kernel found no disk",
    ],
    [
      { initramfs: false, cmdline: "root=LABEL=x quiet" },
      'root device LABEL=x not found; which disks it found "quiet" on the command line hides',
    ],
  ])("with what chv itself knows: %j", (facts, message) => {
    expect(diagnose(panic, [], facts)?.message).toStartWith(message);
  });

  test.each([
    ["ERROR: device 'UUID=0b3d-1a9b' not found. Skipping fsck.", "UUID=0b3d-1a9b"],
    [
      "dracut-initqueue[312]: Warning: /dev/disk/by-label/root does not exist",
      "/dev/disk/by-label/root",
    ],
  ])("of a root that is not there, with what is on the image: %s", (line, root) => {
    const seen = ["[ 1.1]  vda: vda1", "[ 1.1] vdb: vdb1"];
    const diagnosis = diagnose(line, seen, {
      describe: () => 'GPT: partition 1 (ext4 "other")',
    });

    expect(diagnosis?.message).toBe(
      `root device ${root} not found; disks are vda (GPT: partition 1 (ext4 "other")), vdb`,
    );
  });

  test.each([
    ["[!!!!!!] Failed to mount API filesystems.", undefined],
    ["systemd[1]: Freezing execution.", 243],
  ])("an init system that goes no further: %s", (line, status) => {
    expect(diagnose(line, [])?.status).toBe(status as number);
  });

  test("other lines mean nothing", () => {
    expect(diagnose("[    0.0] Command line: panic=-1 root=/dev/vda1", [])).toBeUndefined();
  });
});

test.each([
  ["500ms", 500],
  ["120s", 120_000],
  ["5m", 300_000],
  ["1h", 3_600_000],
  ["1000h", 2 ** 31 - 1], // as much as a timer takes, and not 1 ms
])("%s is %d ms", (text, ms) => {
  expect(durationMs(text)).toBe(ms);
});

describe("reports", () => {
  const report: Report = {
    verdict: { status: 137, by: "guest", reason: "command", signal: 9 },
    ...{ phase: "ended", image: "a&b.img", command: ["make", "<test>"] },
    ...{ timings: { booting: 5, end: 1234 }, console: ["bell \x07 & \u{1f600}", "last"] },
  };

  test("--result names all that is known, and null for the rest", () => {
    expect(resultOf(report)).toEqual({
      ...{ reason: "command", status: 137, status_by: "guest", message: null, phase: "ended" },
      ...{ signal: 9, panic: null, image: "a&b.img", command: ["make", "<test>"] },
      ...{ timings_ms: { booting: 5, end: 1234 }, console: ["bell \x07 & \u{1f600}", "last"] },
    });
  });

  test("--junit is XML that Python reads", () => {
    const program = [
      "import sys, xml.etree.ElementTree as t",
      "r = t.fromstring(sys.stdin.buffer.read()); c = r.find('.//testcase')",
      "print(r.get('failures'), r.get('errors'), c.get('name'), c.get('classname'), c.get('time'),",
      "  c.find('failure').get('message'), ascii(c.find('system-out').text))",
    ].join("\n");
    const { stdout, stderr } = Bun.spawnSync(["/usr/bin/python3", "-c", program], {
      stdin: Buffer.from(junitOf(report)),
    });

    expect([stderr.toString(), stdout.toString()]).toEqual([
      "",
      "1 0 make <test> a&b.img 1.234 exit status 137 'bell ? & \\U0001f600\\nlast'\n",
    ]);
  });
});
