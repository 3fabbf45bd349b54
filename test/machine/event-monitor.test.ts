/** The event monitor's lines, and readers that are slow or gone. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError } from "../../src/exit-codes.ts";
import { EventMonitor } from "../../src/machine/event-monitor.ts";
import { EventLog, type VmmEvent } from "../../src/machine/vmm/events.ts";
import { close, openPath, pipe, text } from "./console/far-end.ts";

const work = mkdtempSync(join(tmpdir(), "chv-events-"));
afterAll(() => rmSync(work, { recursive: true }));
const named = join(work, "pipe");
Bun.spawnSync(["mkfifo", named]);

const event = (name: string, secs = 0, properties: VmmEvent["properties"] = null): VmmEvent => ({
  ...{ sequence: 1, timestamp: { secs, nanos: 0 }, wall_ms: 0 },
  ...{ source: "vm", event: name, properties },
});

test("a line is one JSON object, its time counted from the process's start", () => {
  const path = join(work, "events");
  const monitor = EventMonitor.to({ path });
  const events = new EventLog(5e9, 1_795_347_501_000);
  events.next((event) => monitor.write(event));
  events.tell("vm", "booting", 5_012_000_000);
  events.tell("guest", "debug-code", 7_500_000_001, { code: 65, range: "Kernel" });
  events.tell("vm", "shutdown", 4e9); // before the start: not a negative time
  close(monitor.fd);

  expect(readFileSync(path, "utf8")).toBe(
    `${[
      '{"timestamp":{"secs":0,"nanos":12000000},"wall_ms":1795347501012,"source":"vm","event":"booting","properties":null}',
      '{"timestamp":{"secs":2,"nanos":500000001},"wall_ms":1795347503500,"source":"guest","event":"debug-code","properties":{"code":65,"range":"Kernel"}}',
      '{"timestamp":{"secs":0,"nanos":0},"wall_ms":1795347501000,"source":"vm","event":"shutdown","properties":null}',
    ].join("\n")}\n`,
  );
});

test("a file that is there is continued", () => {
  const path = join(work, "twice");
  for (let i = 0; i < 2; i++) {
    const monitor = EventMonitor.to({ path });
    monitor.write(event("booting"));
    close(monitor.fd);
  }

  expect(readFileSync(path, "utf8").match(/\n/g)).toHaveLength(2);
});

test("a descriptor that is not there, or is for reading, is an error of one line", () => {
  const { read, write } = pipe();
  const message = (fd: number) =>
    `--event-monitor fd=${fd}: not open for writing; pass one that is, as in 9>events`;

  for (const fd of [read, 2 ** 20]) {
    expect(() => EventMonitor.to({ fd })).toThrow(new ConfigError(message(fd)));
  }
  EventMonitor.to({ fd: write }).write(event("booting"));

  expect(JSON.parse(text(read)).event).toBe("booting");
  for (const fd of [read, write]) close(fd);
});

test("text from a guest cannot break out of its line", () => {
  const { read, write } = pipe();
  new EventMonitor(write).write(event("failed", 0, { reason: 'a "quote"\nand a line' }));
  const line = text(read);

  expect(line.match(/\n/g)).toHaveLength(1);
  expect(JSON.parse(line).properties.reason).toBe('a "quote"\nand a line');
  for (const fd of [read, write]) close(fd);
});

test("a reader that takes nothing loses whole lines, and does not hold up the machine", () => {
  const { read, write } = pipe();
  const monitor = new EventMonitor(write);
  for (let i = 0; i < 5000; i++) monitor.write(event("event", i));
  const lines = text(read).trimEnd().split("\n");
  monitor.write(event("after"));

  expect(lines.length).toBeLessThan(5000);
  expect(lines.map((line) => JSON.parse(line).timestamp.secs)).toEqual(lines.map((_, i) => i));
  expect(JSON.parse(text(read)).event).toBe("after");
  for (const fd of [read, write]) close(fd);
});

test("a reader that is gone is left alone", () => {
  const { read, write } = pipe();
  const monitor = new EventMonitor(write);
  close(read);

  expect(() => monitor.write(event("booting"))).not.toThrow();
  expect(() => monitor.write(event("booting"))).not.toThrow();
  close(write);
});

test("a file that cannot be written is named", () => {
  const line = (path: string) => {
    try {
      EventMonitor.to({ path });
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError);
      return (error as Error).message;
    }
    return "opened";
  };
  const fix = "name a file that this user may write";

  expect(line("/nowhere/events")).toBe(
    `--event-monitor /nowhere/events: no such file or directory; ${fix}`,
  );
  expect(line(named)).toBe(`--event-monitor ${named}: no such device or address; ${fix}`);
  const reader = openPath(named, 0);
  const monitor = EventMonitor.to({ path: named });
  monitor.write(event("booting"));
  expect(text(reader)).toContain('"booting"');
  for (const fd of [reader, monitor.fd]) close(fd);
});
