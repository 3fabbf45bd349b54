import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "valibot";
import { ConfigError } from "../../../src/exit-codes.ts";
import { type BootConfig, complete, VmConfigSchema } from "../../../src/machine/config/vm.ts";
import { Owned } from "../../../src/machine/owned.ts";
import { openDevices } from "../../../src/machine/virtio/devices.ts";
import { leftOpen, openFiles } from "../proc.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-rng-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** The entropy devices of a configuration that says no more than this. */
function opened(owned: Owned, config: object) {
  const whole = complete(parse(VmConfigSchema, { ...config, console: { mode: "Off" } }));
  const devices = openDevices(whole as BootConfig, owned);
  return devices.filter(({ backend }) => backend.kind === "entropy");
}

test.each([
  ["nobody asks for one", {}, "/dev/urandom"],
  ["another source is named", { rng: { src: "/dev/random" } }, "/dev/random"],
])("there is one when %s", (_, config, path) => {
  const owned = new Owned();
  const [device, ...more] = opened(owned, config);

  expect(more).toEqual([]);
  expect(device!.identity.type).toBe(4); // virtio 1.2 section 5: entropy source
  expect(device!.identity.queueSizes.length).toBe(1);
  expect(device!.config.length).toBe(0);
  expect(device!.label).toBe(`--rng ${path}`);
  const { fd } = device!.backend.spec as { fd: number };
  expect(readlinkSync(`/proc/self/fd/${fd}`)).toBe(path);
  owned.close();
});

test.each([
  ["/nowhere/rng", "no such file or directory"],
  [folder, "a folder is no source of entropy"],
])("%s is refused", (src, why) => {
  const before = openFiles();
  const owned = new Owned();
  const advice = "name one that chv may read, such as /dev/urandom";

  expect(() => opened(owned, { rng: { src } })).toThrow(
    new ConfigError(`--rng ${src}: ${why}; ${advice}`, "--rng"),
  );

  owned.close();
  expect(leftOpen(before)).toEqual([]);
});

test("a file may be the source", () => {
  const src = join(folder, "bytes");
  writeFileSync(src, "bytes");
  const owned = new Owned();

  expect(opened(owned, { rng: { src } }).length).toBe(1);
  owned.close();
});
