/** `chv run` with a guest that speaks as its runner does: test/guests/virtio-console/run.c. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildGuest } from "./build.ts";
import { chvCommand, guestTimeoutMs } from "./harness.ts";
import { Follower } from "./process.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-run-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const temporary = join(folder, "tmp");
const image = join(folder, "image");
const resultFile = join(folder, "result.json");
let kernel = "";
let program: readonly string[] = [];

beforeAll(async () => {
  kernel = await buildGuest("virtio-console");
  program = await chvCommand();
  writeFileSync(image, "");
  truncateSync(image, 2 ** 20);
  Bun.spawnSync(["mkdir", temporary]);
}, guestTimeoutMs);
beforeEach(() => rmSync(resultFile, { force: true }));

/** A run whose guest gets `words` on its command line. */
function start(command: readonly string[], more: readonly string[] = [], words = ""): Follower {
  const options = ["--memory", "64M", "--kernel", kernel, "--tmpdir", temporary];
  const line = `test=run-agent nth=1 ${words}`;
  const rest = command.length === 0 ? [] : ["--", ...command];
  return new Follower(
    [
      ...program,
      "run",
      image,
      ...options,
      "--cmdline",
      line,
      "--result",
      resultFile,
      ...more,
      ...rest,
    ],
    guestTimeoutMs,
  );
}

async function run(command: readonly string[], more: readonly string[] = [], words = "") {
  const running = start(command, more, words);
  await running.endInput();
  return running.ended();
}

const result = () => JSON.parse(readFileSync(resultFile, "utf8"));
const limit = guestTimeoutMs;

describe("a command", () => {
  test(
    "that ends well is status 0, with its two outputs and not a word more",
    async () => {
      expect(await run(["both"])).toEqual({ exitCode: 0, stdout: "out\n", stderr: "err\n" });
      expect(result()).toMatchObject({
        ...{ reason: "command", status: 0, status_by: "guest", phase: "ended", command: ["both"] },
      });
    },
    limit,
  );

  test(
    "hands on its status",
    async () => {
      expect(await run(["status", "7"])).toEqual({ exitCode: 7, stdout: "", stderr: "" });
      expect(result()).toMatchObject({ reason: "command", status: 7, status_by: "guest" });
    },
    limit,
  );

  test(
    "is asked for as it was written",
    async () => {
      const words = ["job", "a b", "", "ü'\"", "--", "-x"];
      const { stdout } = await run(words, [
        ...["--env", "A=1", "B=x=y", "--workdir", "/w", "--user", "me"],
      ]);

      expect(JSON.parse(stdout)).toEqual({
        ...{ argv: words, env: { A: "1", B: "x=y" }, workdir: "/w", user: "me", sync: false },
      });
    },
    limit,
  );

  test(
    "is asked for byte for byte, also where its words are no text",
    async () => {
      const words = commandOf(["job"]).map((word) => `'${word}'`);
      const { stdout } = Bun.spawnSync([
        "bash",
        "-c",
        `exec ${words.join(" ")} $'a\\xffb' $'\\x80' 'ü' </dev/null`,
      ]);

      expect(JSON.parse(stdout.toString()).argv).toEqual(["job", "a\udcffb", "\udc80", "ü"]);
    },
    limit,
  );

  test(
    "gets standard input to its end, byte for byte",
    async () => {
      const running = start(["cat"]);
      const text = Array.from({ length: 20_000 }, (_, i) => `${i} ü\n`).join("");
      await running.input(text);
      await running.endInput();
      const { stdout, stderr, exitCode } = await running.ended();

      expect([exitCode, stderr]).toEqual([0, ""]);
      expect(stdout === text).toBe(true);
    },
    limit,
  );

  test(
    "whose input never was has its end at once",
    async () => {
      expect(await run(["cat"])).toEqual({ exitCode: 0, stdout: "", stderr: "" });
    },
    limit,
  );

  test(
    "whose reader goes away is told by SIGPIPE",
    async () => {
      const words = commandOf(["pipe"]).map((word) => `'${word}'`);
      const { stdout } = Bun.spawnSync([
        "bash",
        "-c",
        `${words.join(" ")} | head -c 10; echo " $PIPESTATUS"`,
      ]);

      expect(stdout.toString()).toEndWith(" 141\n");
    },
    limit,
  );

  test.each([
    ["SIGINT", "signal", 130, ""],
    ["SIGTERM", "signal", 143, ""],
    ["SIGINT", "polite", 130, "chv: interrupted\n"],
  ] as const)(
    "%s reaches it: %s",
    async (signal, word, status, said) => {
      const running = start([word]);
      await running.until("waiting");
      running.kill(signal);
      const { exitCode, stderr } = await running.ended();

      expect([exitCode, stderr]).toEqual([status, said]);
      expect(result().status).toBe(status);
    },
    limit,
  );

  test(
    "that does not heed a signal is left at the second",
    async () => {
      const running = start(["hang"]);
      await running.until("waiting");
      running.kill("SIGINT");
      await Bun.sleep(1);
      const again = setInterval(() => running.kill("SIGINT"), 20);
      const { exitCode, stderr } = await running.ended();
      clearInterval(again);

      expect([exitCode, stderr]).toEqual([130, "chv: ended by SIGINT\n"]);
      expect(result()).toMatchObject({ reason: "interrupted", status_by: "chv", phase: "command" });
    },
    limit,
  );

  test(
    "whose disks are kept is followed by an orderly power-off",
    async () => {
      const keep = join(folder, "kept.qcow2");
      const { exitCode } = await run(["status", "3"], ["--keep", keep]);

      expect(exitCode).toBe(3);
      expect(result().console).toContain("ok run-agent");
      expect(readFileSync(keep).toString("latin1", 0, 4)).toBe("QFI\xfb");
    },
    limit,
  );
});

const commandOf = (command: readonly string[]) => [
  ...[...program, "run", image, "--memory", "64M", "--kernel", kernel, "--tmpdir", temporary],
  ...["--cmdline", "test=run-agent nth=1", "--", ...command],
];

describe("a run that fails is one line and a status of its own", () => {
  test.each([
    ["off", "", 248, "guest-gone", "the guest powered off before the command ended"],
    ["reset", "", 248, "guest-gone", "the guest was reset (i8042) before the command ended"],
    ["nonsense", "", 248, "guest-gone", "the runner in the guest says what no runner says"],
    ["panic", "", 245, "panic", "panic: Attempted to kill init!"],
    ["both", "first=off", 248, "guest-gone", "the guest powered off before the command started"],
    ["both", "first=panic", 245, "panic", "panic: Attempted to kill init!"],
  ])(
    "%s %s",
    async (command, words, status, reason, message) => {
      const { exitCode, stderr } = await run([command], [], words);

      expect([exitCode, stderr]).toEqual([status, `chv: ${message}\n`]);
      expect(result()).toMatchObject({ reason, status, message, status_by: "chv" });
    },
    limit,
  );

  test(
    "a guest that resets itself before the command starts goes on",
    async () => {
      expect((await run(["status", "4"], [], "first=reset")).exitCode).toBe(4);
    },
    limit,
  );

  test(
    "--timeout",
    async () => {
      const { exitCode, stderr } = await run(["hang"], ["--timeout", "2500ms"]);

      expect(exitCode).toBe(244);
      expect(stderr).toMatch(/^chv: --timeout 2500ms: the guest got as far as "\w+"\n$/);
      expect(result()).toMatchObject({ reason: "timeout", status: 244 });
    },
    limit,
  );

  test(
    "--fail-on",
    async () => {
      const { exitCode, stderr } = await run(
        ["hang"],
        ["--fail-on", "BUG: \\w+"],
        "say=a_BUG:_soft_lockup",
      );

      expect([exitCode, stderr]).toEqual([
        246,
        'chv: --fail-on "BUG: \\\\w+" matched: a BUG: soft lockup\n',
      ]);
    },
    limit,
  );

  test(
    "--expect that did not come",
    async () => {
      const { exitCode, stderr } = await run(["both"], ["--expect", "never"], "say=other");

      expect([exitCode, stderr]).toEqual([
        247,
        'err\nchv: --expect "never" not met, and the command has ended\n',
      ]);
    },
    limit,
  );

  test(
    "a command line that cannot be read, an image that is not there",
    async () => {
      expect((await run(["both"], ["--cpuss", "2"])).exitCode).toBe(240);
      expect(result()).toMatchObject({ reason: "usage", status: 240, phase: "starting" });
      expect((await run(["both"], ["--disk-size", "1K"])).exitCode).toBe(242);
      expect(result()).toMatchObject({ reason: "configuration", status: 242 });
    },
    limit,
  );
});

describe("without a command", () => {
  test(
    "the console is standard output, and a power-off is the end",
    async () => {
      const { exitCode, stdout, stderr } = await run([], [], "console=ttyS0 say=hello first=off");

      expect({ exitCode, stdout: stdout.trim(), stderr }).toEqual({
        exitCode: 0,
        stdout: "hello",
        stderr: "",
      });
      expect(result()).toMatchObject({ reason: "poweroff", status_by: "guest" });
    },
    limit,
  );

  test(
    "--expect that is met is the end",
    async () => {
      const { exitCode } = await run([], ["--expect", "^not ok run"], "");

      expect(exitCode).toBe(0);
      expect(result()).toMatchObject({ reason: "expected", status: 0 });
    },
    limit,
  );
});

test(
  "--console-log has every line with its time, --junit a test case",
  async () => {
    const [log, junit] = [join(folder, "console.log"), join(folder, "junit.xml")];
    await run(["status", "2"], ["--console-log", log, "--junit", junit], "say=one_<two>");

    const lines = readFileSync(log, "utf8").trimEnd().split("\n");
    for (const line of lines) expect(line).toMatch(/^\[ +\d+\.\d{6}\] \w+: /);
    const said = lines.map((line) => line.replace(/^.*?\] /, ""));
    expect(said).toContain("serial: one <two>");
    expect(said.filter((line) => line.startsWith("chv: "))).toEqual(
      ["booting", "runner", "ready", "command", "ended"].map((phase) => `chv: ${phase}`),
    );
    const xml = readFileSync(junit, "utf8");
    expect(xml).toContain('<failure type="command" message="exit status 2"/>');
    expect(xml).toContain("one &lt;two&gt;");
  },
  limit,
);

test(
  "--progress tells how far it is, on standard error",
  async () => {
    const { stdout, stderr } = await run(["both"], ["--progress"], "say=hello");

    expect(stdout).toBe("out\n");
    expect(stderr).toMatch(
      /^chv: booting\nhello\nchv: runner\nchv: ready\n(?:chv: command\n|err\n|chv: ended\n)+$/,
    );
  },
  limit,
);

test(
  "kill -9 leaves nothing, and the image is as it was",
  async () => {
    const before = readFileSync(image);
    const running = start(["hang"]);
    await running.until("waiting");
    running.kill("SIGKILL");
    await running.ended();

    expect(readdirSync(temporary)).toEqual([]);
    expect(readFileSync(image).equals(before)).toBe(true);
  },
  limit,
);

test(
  "eight run at once on one image",
  async () => {
    const statuses = [1, 2, 3, 4, 5, 6, 7, 8];
    const runs = await Promise.all(statuses.map((status) => run(["status", String(status)])));

    expect(runs.map(({ exitCode }) => exitCode)).toEqual(statuses);
  },
  limit,
);
