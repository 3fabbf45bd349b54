/** Each way that `chv run` can end leaves its result, and says why in one line; and what it needs of its host. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { close, Open, open } from "../../src/ffi/file.ts";
import { openPty } from "../../src/ffi/terminal.ts";
import { ubuntuConfig } from "../firmware/disk/ubuntu.ts";
import { take } from "../machine/console/far-end.ts";
import { gptImage, run as tool } from "../machine/disk-boot/images.ts";
import { buildGuest } from "./build.ts";
import { chvCommand, guestTimeoutMs } from "./harness.ts";
import { Follower } from "./process.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-run-"));
const inFolder = (name: string) => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const [image, resultFile, junitFile] = ["image", "result.json", "junit.xml"].map(inFolder);
const [temporary, consoleLog] = ["tmp", "console.log"].map(inFolder);
const agent = "test=run-agent nth=1";
let kernel = "";
let program: readonly string[] = [];

beforeAll(async () => {
  kernel = await buildGuest("virtio-console");
  program = await chvCommand();
  writeFileSync(image!, "");
  truncateSync(image!, 2 ** 20);
  mkdirSync(temporary!);
  chmodSync(folder, 0o755);
  chmodSync(temporary!, 0o777);
}, guestTimeoutMs);
beforeEach(() => {
  for (const file of [resultFile, junitFile, consoleLog]) rmSync(file!, { force: true });
});

/** The words of a run; without a kernel of its own, `from` is an image that names one. */
const words = (...more: readonly string[]) => [
  ...[...program, "run", image!, "--memory", "64M", "--kernel", kernel, "--tmpdir", temporary!],
  ...["--result", resultFile!, "--junit", junitFile!, "--console-log", consoleLog!, ...more],
];
const guest = (more: string) => ["--cmdline", `${agent} ${more}`];
const start = (...more: readonly string[]) => new Follower(words(...more), guestTimeoutMs);
const ends = async (running: Follower) => {
  await running.endInput();
  return running.ended();
};
const result = () => JSON.parse(readFileSync(resultFile!, "utf8"));
const junit = () => readFileSync(junitFile!, "utf8");
const guests = (name: string, run: () => Promise<void>) => test(name, run, guestTimeoutMs);

/** Until a console has said it. */
async function untilSaid(text: string): Promise<void> {
  const file = consoleLog!;
  while (!existsSync(file) || !readFileSync(file, "utf8").includes(text)) await Bun.sleep(1);
}

describe("a signal to chv before the command has started", () => {
  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)(
    "%s is status %d",
    async (signal, status) => {
      const running = start(...guest("say=hello first=hang"), "--", "true");
      await untilSaid("hello");
      running.kill(signal);
      const { exitCode, stdout, stderr } = await running.ended();

      expect([exitCode, stdout, stderr]).toEqual([status, "", `chv: ended by ${signal}\n`]);
      const found = result();
      expect(found).toMatchObject({ reason: "interrupted", status, status_by: "chv" });
      expect(found.console).toEqual(["hello"]);
      expect(junit()).toContain('<error type="interrupted"');
      expect(readdirSync(temporary!)).toEqual([]);
    },
    guestTimeoutMs,
  );
});

describe("what is asked for and cannot be is told at once", () => {
  const refused = async (more: readonly string[], status: number, line: RegExp) => {
    const { exitCode, stdout, stderr } = await ends(start(...more, "--", "true"));
    expect([exitCode, stdout]).toEqual([status, ""]);
    expect(stderr).toMatch(line);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    return stderr;
  };

  guests("a word that is no option", async () => {
    await refused(["--frobnicate"], 240, /^chv: .*--frobnicate/);

    expect(result()).toMatchObject({ reason: "usage", status: 240, command: ["true"] });
    expect(junit()).toContain('errors="1"');
  });

  guests("user data that is no YAML, with its line and column", async () => {
    const path = inFolder("user-data");
    writeFileSync(path, "#cloud-config\npackages: [a\nb: c\n");
    const line = /^chv: --cloud-init user-data=.*: line 3, column 1: /;
    const message = await refused(["--cloud-init", `user-data=${path}`], 242, line);

    expect(result()).toMatchObject({ reason: "configuration", phase: "starting" });
    expect(`chv: ${result().message}\n`).toBe(message);
  });

  guests("a result that could not be written in the end", async () => {
    await refused(["--result", "/nowhere/r"], 240, /--result/); // twice
    const again = [...program, "run", image!, "--result", "/nowhere/r", "--", "true"];
    const { exitCode, stderr } = await ends(new Follower(again, guestTimeoutMs));

    expect([exitCode, stderr]).toEqual([
      242,
      "chv: --result /nowhere/r: ENOENT; name a file in a folder that this user may write\n",
    ]);
  });

  guests("a folder for temporary files that is not there", async () => {
    const running = new Follower([...program, "run", image!, "--", "true"], guestTimeoutMs, {
      TMPDIR: "/nowhere",
    });

    expect((await ends(running)).stderr).toMatch(/^chv: --tmpdir \/nowhere: no such file/);
  });
});

describe("an image", () => {
  const onDisk = (name: string) => [...program, "run", name, "--memory", "64M"];

  guests("without a kernel says where one was looked for", async () => {
    const empty = gptImage(inFolder("empty"), [
      { number: 1, mebibytes: 2, format: "ext4", label: "data" },
    ]);
    const running = new Follower([...onDisk(empty), "--", "true"], guestTimeoutMs);
    const { exitCode, stderr } = await ends(running);

    expect(exitCode).toBe(242);
    expect(stderr).toMatch(
      /^chv: IMAGE .*: no boot set-up on GPT: partition 1 \(ext4 "data"\): looked for \/boot\/grub\/grub.cfg, /,
    );
  });

  guests("whose names would command a terminal is told of in plain text", async () => {
    const path = inFolder("loud");
    const config = "menuentry 'a\x1b]0;b\x07' {\nlinux /none\n}\n";
    const files = { "/boot/grub/grub.cfg": config };
    const loud = gptImage(path, [
      { number: 1, mebibytes: 2, format: "ext4", label: "c\x1b[2J", files },
    ]);
    const running = new Follower([...onDisk(loud), "--", "true"], guestTimeoutMs);
    const { stderr } = await ends(running);

    expect(stderr).toContain('the entry "a\\x1b]0;b\\x07" loads no kernel');
    expect(stderr).toContain('(ext4 "c\\x1b[2J")');
  });

  guests("whose root is missing is told with what is there", async () => {
    const version = "6.8.0-31-generic";
    const grub = ubuntuConfig({ kernels: [version], uuid: "none", boot: "/boot" }).replace(
      /search --no-floppy --fs-uuid .*/g,
      "search --no-floppy --label --set=root other",
    );
    const files = {
      [`/boot/vmlinuz-${version}`]: readFileSync(kernel),
      [`/boot/initrd.img-${version}`]: "an initramfs",
      "/boot/grub/grub.cfg": grub,
    };
    const path = gptImage(inFolder("rootless"), [
      { number: 1, mebibytes: 4, format: "ext4", label: "other", files },
    ]);
    const said = "[1.1]__vda:_vda1|ALERT!__LABEL=cloudimg-rootfs_does_not_exist.__Dropping";
    const append = ["--cmdline-append", `${agent} say=${said} first=hang`];
    const more = ["--result", resultFile!, "--", "true"];
    const running = new Follower([...onDisk(path), ...append, ...more], guestTimeoutMs);
    const { exitCode, stderr } = await ends(running);
    const message =
      "root device LABEL=cloudimg-rootfs not found; " +
      'disks are vda (GPT: partition 1 (ext4 "other"))';

    expect([exitCode, stderr]).toEqual([243, `chv: ${message}\n`]);
    expect(result()).toMatchObject({ reason: "boot", message, status_by: "chv" });
  });
});

guests("a result goes to what is no file as it is", async () => {
  const path = inFolder("fifo");
  tool("mkfifo", path);
  const command = [...program, "run", image!, "--memory", "64M", "--kernel", kernel];
  const more = [...guest(""), "--result", path, "--", "status", "6"];
  const running = new Follower([...command, ...more], guestTimeoutMs);
  const told = await Bun.file(path).text();

  expect([(await ends(running)).exitCode, JSON.parse(told).status]).toEqual([6, 6]);
  expect(tool("stat", "-c", "%F", path)).toBe("fifo\n");
});

guests("a console log that finds no room ends nothing, and is told of in the end", async () => {
  const more = [...guest("say=hello"), "--result", resultFile!, "--console-log", "/dev/full"];
  const command = [...program, "run", image!, "--memory", "64M", "--kernel", kernel, ...more];
  const running = new Follower([...command, "--", "status", "6"], guestTimeoutMs);

  expect(await ends(running)).toEqual({
    ...{ exitCode: 6, stdout: "" },
    stderr: "chv: --console-log /dev/full: ENOSPC; lines are lost\n",
  });
  expect(result()).toMatchObject({ reason: "command", status: 6, console: ["hello"] });
});

guests("--script takes several steps, and types each", async () => {
  const [script, log] = [inFolder("script"), consoleLog!];
  const steps = "# a talk\nexpect login: $\nsend one\nexpect told one\nsend again\n";
  writeFileSync(script, `${steps}expect login: $\nsend two\nexpect told two\n`);
  const command = [...program, "run", image!, "--memory", "64M", "--kernel"];
  const talk = [await buildGuest("talk"), "--cmdline", "console=ttyS0", "--script", script];
  const more = [...talk, "--result", resultFile!, "--console-log", log];
  const { exitCode } = await ends(new Follower([...command, ...more], guestTimeoutMs));

  expect(exitCode).toBe(0);
  expect(result()).toMatchObject({ reason: "expected", status: 0 });
  const lines = readFileSync(log, "utf8").matchAll(/told (\w+)/g);
  expect([...lines].map(([, word]) => word)).toEqual(["one", "again", "two"]);
});

guests("--keep is an image over the other, as large as --disk-size says", async () => {
  const kept = inFolder("kept.qcow2");
  const more = [...guest(""), "--keep", kept, "--disk-size", "8M", "--", "status", "0"];
  const { exitCode } = await ends(start(...more));
  const info = JSON.parse(tool("qemu-img", "info", "--output=json", kept));

  expect(exitCode).toBe(0);
  expect([info["virtual-size"], info["full-backing-filename"]]).toEqual([2 ** 23, image]);
});

guests("progress is on a terminal until the command starts", async () => {
  const { master, path } = openPty();
  const slave = open(path, Open.readWrite | Open.noControllingTerminal);
  const child = Bun.spawn(words(...guest("say=hello"), "--", "both"), {
    ...{ stdin: "ignore", stdout: "pipe", stderr: slave },
  });
  expect([await child.exited, await child.stdout.text()]).toEqual([0, "out\n"]);
  const seen = take(master);
  close(slave);
  close(master);

  const lines = Buffer.from(seen as Uint8Array)
    .toString()
    .split(/\r?\n/);
  expect(lines.slice(0, 2)).toEqual(["chv: booting", "hello"]);
  expect(lines.filter((line) => !line.startsWith("chv: ")).slice(1)).toEqual(["err", ""]);
  expect(lines).not.toContain("chv: ended");
});

test.each([
  ["nobody's environment", []],
  ["a plain user", ["--reuid=65534", "--regid=65534"]],
])(
  "it runs in %s",
  async (_, user) => {
    const node = inFolder("kvm");
    rmSync(node, { force: true });
    const quoted = [...program, "run", image!, "--memory", "64M", "--kernel", kernel, "--tmpdir"]
      .concat(temporary!, guest("z=1"), "--", "status", "5")
      .map((word) => `'${word}'`);
    // a device of its own, that everybody may use, stands where /dev/kvm is
    const place = `/bin/mknod -m 666 ${node} c 10 232 && /bin/mount --bind ${node} /dev/kvm`;
    const who = user.length > 0 ? `/usr/bin/setpriv ${user.join(" ")} --clear-groups` : "";
    const script = `${place} && PATH= exec ${who} ${quoted.join(" ")}`;
    const child = Bun.spawn(["/usr/bin/unshare", "-m", "/bin/sh", "-c", script], {
      ...{ stdin: "ignore", stdout: "pipe", stderr: "pipe", env: {} },
    });

    expect([await child.stderr.text(), await child.exited]).toEqual(["", 5]);
  },
  guestTimeoutMs,
);
