import { describe, expect } from "bun:test";
import { bzImage, ownDecompressor, panicked, pty, socket } from "./boots.ts";
import { guestTest } from "./guest.ts";

describe("reset", () => {
  guestTest("a panic with panic=-1 reboots", async () => {
    const { events } = await panicked();
    expect(events.indexOf("vm/reset")).toBeGreaterThan(events.indexOf("guest/userspace"));
    expect(events.indexOf("guest/userspace")).toBeGreaterThan(0);
  });
});

describe("signals", () => {
  guestTest("SIGTERM: exit 0", async () => {
    const { code, events } = await panicked();
    expect(code).toBe(0);
    expect(events.at(-1)).toBe("vmm/exit");
    expect((await socket()).code).toBe(0);
    expect((await pty()).code).toBe(0);
  });

  guestTest("SIGINT: exit 130", async () => {
    const { code, events } = await ownDecompressor();
    expect(code).toBe(130);
    expect(events.at(-1)).toBe("vmm/exit");
  });
});

describe("the log", () => {
  guestTest("as text: every line of -vv, and the debug port's code with its seconds", async () => {
    const lines = (await bzImage()).stderr.trimEnd().split("\n");
    for (const line of lines) {
      expect(line).toMatch(/^chv: \d+\.\d{6}s: \w+ (ERRO|WARN|INFO|DEBG):[^ ]+:\d+ -- ./);
    }
    const code = /-- \[Debug I\/O port: Userspace code 0x60\] (\d+\.\d+) seconds$/;
    const seconds = lines.flatMap((line) => code.exec(line)?.[1] ?? []);
    expect(seconds).toHaveLength(1);
    expect(Number(seconds[0])).toBeGreaterThan(0);
  });

  guestTest("as JSON, in a file: the same words", async () => {
    const { files, stderr } = await pty();
    const lines = files
      .log!.trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    for (const line of lines) {
      expect(Object.keys(line)).toEqual(["seconds", "thread", "level", "file", "line", "text"]);
    }
    const texts: string[] = lines.map(({ text }) => text);
    expect(
      texts.filter((text) => text.startsWith("[Debug I/O port: Userspace code 0x60] ")),
    ).toHaveLength(1);
    expect(stderr).toBe("");
  });
});

describe("events", () => {
  guestTest("tell the steps of a boot in order", async () => {
    const { events } = await bzImage();
    const steps = ["vmm/starting", "vm/booting", "vm/first-run", "guest/kernel", "guest/userspace"];
    expect(events.filter((event) => steps.includes(event))).toEqual(steps);
  });
});
