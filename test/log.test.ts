import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { callSite } from "../src/bus/call-site.ts";
import { LogLevel } from "../src/bus/events.ts";
import { ConfigError } from "../src/exit-codes.ts";
import { formatRecord, Logger, levelOf } from "../src/log.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-log-"));
const logger = new Logger();
let files = 0;

/** A fresh log file; gives a function that reads its lines. */
function fileLog(): () => string[] {
  const path = join(folder, `${files++}.log`);
  logger.openFile(path);
  return () => readFileSync(path, "utf8").split("\n").slice(0, -1);
}

afterEach(() => {
  logger.close();
  logger.setLevel(LogLevel.warn);
  logger.setFormat("text");
});
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

const record = {
  level: LogLevel.debug,
  thread: "vcpu0",
  seconds: 0.412003,
  file: "src/machine/vcpu.ts",
  line: 88,
  text: "text",
};

test("a text line is exactly as the drivers of Cloud Hypervisor scan it", () => {
  expect(formatRecord(record, "text")).toBe(
    "chv: 0.412003s: vcpu0 DEBG:src/machine/vcpu.ts:88 -- text",
  );
});

test.each([
  [LogLevel.error, "ERRO", "error"],
  [LogLevel.warn, "WARN", "warn"],
  [LogLevel.info, "INFO", "info"],
  [LogLevel.debug, "DEBG", "debug"],
  [LogLevel.trace, "TRCE", "trace"],
] as const)("level %d is spelled %s in text and %s in JSON", (level, spelled, name) => {
  expect(formatRecord({ ...record, level }, "text")).toContain(` ${spelled}:src/`);
  expect(JSON.parse(formatRecord({ ...record, level }, "json")).level).toBe(name);
});

test("a JSON line is one object with the same parts", () => {
  expect(formatRecord({ ...record, text: 'a "b"\nc' }, "json")).toBe(
    '{"seconds":0.412003,"thread":"vcpu0","level":"debug","file":"src/machine/vcpu.ts",' +
      '"line":88,"text":"a \\"b\\"\\nc"}',
  );
});

test("seconds have six decimals, small and large", () => {
  expect(formatRecord({ ...record, seconds: 0 }, "text")).toStartWith("chv: 0.000000s: ");
  expect(formatRecord({ ...record, seconds: 86400.5 }, "text")).toStartWith("chv: 86400.500000s: ");
});

test("text from a guest cannot break or fake a line", () => {
  const text = "a\nchv: 0.1s: main ERRO:x:1 -- b\u001b[2J\u009b";

  const line = formatRecord({ ...record, text }, "text");

  expect(line).toEndWith("-- a\\x0achv: 0.1s: main ERRO:x:1 -- b\\x1b[2J\\x9b");
});

test("a logged line names this file and the line of the call", () => {
  const lines = fileLog();

  const { line } = callSite(new Error().stack ?? "", 1);
  logger.warn("here");

  expect(lines()).toHaveLength(1);
  expect(lines()[0]).toMatch(
    new RegExp(`^chv: \\d+\\.\\d{6}s: main WARN:log\\.test\\.ts:${line + 1} -- here$`),
  );
});

test("a path is given from src/ on, a binary by its name", () => {
  const at = (frame: string) => callSite(`Error\n    at ${frame}`, 1);

  expect(at("run (/home/x/src/machine/vcpu.ts:12:7)")).toEqual({
    file: "src/machine/vcpu.ts",
    line: 12,
  });
  expect(at("/$bunfs/root/chv:9931:12")).toEqual({ file: "chv", line: 9931 });
  expect(at("native")).toEqual({ file: "chv", line: 0 });
});

test("warnings and errors are logged by default, each level adds the next", () => {
  const lines = fileLog();
  const logAll = () => {
    logger.error("error");
    logger.warn("warn");
    logger.info("info");
    logger.debug("debug");
    logger.trace("trace");
  };
  const seen = () => lines().map((line) => line.split(" -- ")[1]);

  logAll();
  expect(seen()).toEqual(["error", "warn"]);
  logger.setLevel(LogLevel.debug);
  logAll();
  expect(seen().slice(2)).toEqual(["error", "warn", "info", "debug"]);
  logger.setLevel(LogLevel.trace);
  logAll();
  expect(seen().slice(6)).toEqual(["error", "warn", "info", "debug", "trace"]);
});

test("a worker's record keeps its thread and time, and obeys the level", () => {
  const lines = fileLog();

  logger.writeRecord(record);
  logger.setLevel(LogLevel.debug);
  logger.writeRecord(record);

  expect(lines()).toEqual(["chv: 0.412003s: vcpu0 DEBG:src/machine/vcpu.ts:88 -- text"]);
});

test("a log file is appended to", () => {
  const lines = fileLog();
  logger.error("one");
  logger.close();
  logger.openFile(join(folder, `${files - 1}.log`));
  logger.error("two");

  expect(lines().map((line) => line.split(" -- ")[1])).toEqual(["one", "two"]);
});

test("a log file that cannot be opened is a configuration error that names the option", () => {
  const open = () => logger.openFile(join(folder, "absent", "x.log"));

  expect(open).toThrow(ConfigError);
  expect(open).toThrow(/^--log-file: cannot open ".*absent\/x\.log": ENOENT; /);
});

test("a full disk is reported once on stderr and ends nothing", async () => {
  const script = `
    import { Logger } from ${JSON.stringify(join(import.meta.dir, "../src/log.ts"))};
    const logger = new Logger();
    logger.openFile("/dev/full");
    logger.error("one"); logger.error("two");
    console.log("alive");`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "pipe" });

  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);

  expect(stdout).toBe("alive\n");
  expect(stderr).toBe("chv: --log-file: write failed: ENOSPC; lines are lost\n");
});

test("a named pipe that nobody empties loses lines, counts them and blocks nothing", async () => {
  const path = join(folder, "pipe");
  expect(Bun.spawnSync(["mkfifo", path]).exitCode).toBe(0);
  const { openSync, readSync, closeSync, constants } = await import("node:fs");
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  logger.openFile(path);
  const text = "x".repeat(1000);

  for (let i = 0; i < 200; i++) logger.error(text); // a pipe holds 64 KiB
  const drained = Buffer.alloc(1 << 20);
  readSync(reader, drained);
  logger.error("after");

  const rest = Buffer.alloc(1 << 16);
  const lines = rest.toString("utf8", 0, readSync(reader, rest)).trimEnd().split("\n");
  expect(lines.at(-2)).toMatch(/ WARN:.* -- 1\d\d log lines were lost: the reader was too slow$/);
  expect(lines.at(-1)).toEndWith("-- after");
  closeSync(reader);
});

test("no -v is warnings, one info, two debug, three and more trace", () => {
  expect([0, 1, 2, 3, 4, 9].map(levelOf)).toEqual([1, 2, 3, 4, 4, 4]);
});
