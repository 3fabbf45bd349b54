import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "valibot";
import { ByteRing } from "../../../src/bus/byte-ring.ts";
import { ConfigError } from "../../../src/exit-codes.ts";
import { type BootConfig, complete, VmConfigSchema } from "../../../src/machine/config/vm.ts";
import { Consoles } from "../../../src/machine/console/consoles.ts";
import { Owned } from "../../../src/machine/owned.ts";
import { openDevices } from "../../../src/machine/virtio/devices.ts";
import { leftOpen, openFiles } from "../proc.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-consoles-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** What a configuration opens, and the consoles among it. */
function opened(config: object) {
  const before = openFiles();
  const owned = new Owned();
  const whole = complete(parse(VmConfigSchema, config)) as BootConfig;
  const consoles = new Consoles(owned);
  const close = () => {
    owned.close();
    expect(leftOpen(before)).toEqual([]);
  };
  try {
    const all = openDevices(whole, owned, consoles);
    const devices = all.filter(({ backend }) => backend.kind === "console");
    return { all, devices, consoles, close };
  } catch (error) {
    close();
    throw error;
  }
}

test("the console is the first device; off is none", () => {
  const { all, devices, close } = opened({ console: { mode: "Null" } });
  expect(all[0]).toBe(devices[0]!);
  expect(devices.map(({ id, label, identity }) => [id, label, identity.type])).toEqual([
    ["__console", "--console", 3], // virtio 1.2 section 5: console
  ]);
  expect(devices[0]!.identity.queueSizes.length).toBe(2);
  close();

  const off = opened({ console: { mode: "Off" } });
  expect(off.devices).toEqual([]);
  off.close();
});

test("ports are one device, the last", () => {
  const ports = [
    { name: "org.chv.0", mode: "Pty" },
    { name: "log", mode: "File", file: join(folder, "log") },
    { name: "shell", mode: "Socket", socket: join(folder, "s"), console: true },
  ];
  const { all, devices, consoles, close } = opened({ console: { mode: "Off" }, ports });

  expect(all.at(-1)).toBe(devices[0]!);
  expect(devices.map(({ id, identity }) => [id, identity.queueSizes.length])).toEqual([
    ["__ports", 8],
  ]);
  const { spec, ends } = devices[0]!.backend as unknown as {
    spec: unknown;
    ends: { name: string; mode: string }[];
  };
  expect(spec).toMatchObject({
    ports: [
      { name: "org.chv.0", console: false },
      { name: "log", console: false },
      { name: "shell", console: true },
    ],
  });
  expect(ends.map(({ name, mode }) => [name, mode])).toEqual([
    ["port org.chv.0", "pty"],
    ["port log", "file"],
    ["port shell", "socket"],
  ]);
  expect(consoles.ptys.map(({ option }) => option)).toEqual(["--port org.chv.0"]);
  expect(consoles.shown.map(({ name }) => name)).toEqual(["port shell"]);
  expect(existsSync(join(folder, "s"))).toBe(true);
  close();
  expect(existsSync(join(folder, "s"))).toBe(false);
});

test("a port that cannot be opened is named, and nothing is left open", () => {
  const ports = [
    { name: "good", mode: "Pty" },
    { name: "bad", mode: "File", file: "/nowhere/log" },
  ];
  const why = "no such file or directory; name a path in a folder that this user may write";

  expect(() => opened({ console: { mode: "Null" }, ports })).toThrow(
    new ConfigError(`--port bad /nowhere/log: ${why}`, "--port"),
  );
});

test("the serial port has rings for all its bytes, a console one for what it said last", () => {
  const owned = new Owned();
  const consoles = new Consoles(owned);
  const serial = consoles.openSerial({ mode: "Null" })!;
  const console = consoles.openConsole("--console", { mode: "Null" })!;

  expect(new ByteRing(serial.output).size).toBe(65_536);
  expect(new ByteRing(serial.input).size).toBe(4096);
  expect(new ByteRing(console.output).size).toBe(262_144);
  expect(consoles.shown).toEqual([serial, console]);
  expect(consoles.openSerial({ mode: "Off" })).toBeUndefined();
  owned.close();
});
