/** Persistent memory that opens, where it goes, what of it is whose; and that which does not open. */
import { afterAll, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "valibot";
import { parseOptions } from "../../../src/cli/options.ts";
import type { PmemSpec } from "../../../src/devices/virtio/pmem-config.ts";
import { ConfigError } from "../../../src/exit-codes.ts";
import { copyFrom, copyTo } from "../../../src/ffi/memory.ts";
import { PmemConfig } from "../../../src/machine/config/devices.ts";
import { MemoryConfig } from "../../../src/machine/config/machine.ts";
import { type BootConfig, complete, VmConfigSchema } from "../../../src/machine/config/vm.ts";
import { ramLayout } from "../../../src/machine/guest-memory.ts";
import { Owned } from "../../../src/machine/owned.ts";
import { openDevices } from "../../../src/machine/virtio/devices.ts";
import { persistentRegions } from "../../../src/machine/virtio/persistent.ts";
import type { VirtioDevice } from "../../../src/machine/virtio/spec.ts";
import { leftOpen, openFiles } from "../proc.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const folder = mkdtempSync(join(tmpdir(), "chv-pmems-"));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, bytes = 4 * MiB, content = ""): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  truncateSync(path, bytes);
  return path;
}

interface Opened {
  readonly owned: Owned;
  readonly devices: readonly VirtioDevice[];
  readonly specs: readonly PmemSpec[];
}

/** What the machine opens for these, in a guest of so much memory. */
function opened(texts: readonly string[], memory = "512M", bits = 46): Opened {
  const owned = new Owned();
  const pmem = texts.map((text) => parseOptions(PmemConfig, text, "--pmem"));
  const json = { cpus: { max_phys_bits: bits } };
  const config = {
    ...complete(parse(VmConfigSchema, json)),
    ...{ pmem, memory: parseOptions(MemoryConfig, memory, "--memory") },
  };
  try {
    const devices = openDevices(config as BootConfig, owned).filter(
      ({ backend }) => backend.kind === "pmem",
    );
    return { owned, devices, specs: devices.map(({ backend }) => backend.spec as PmemSpec) };
  } catch (error) {
    owned.close();
    throw error;
  }
}

const mapped = (path: string) => readFileSync("/proc/self/maps", "utf8").includes(path);

/** The message of the ConfigError; nothing may be left open or mapped. */
function refusal(texts: readonly string[], memory?: string, bits?: number): string {
  const before = openFiles();
  try {
    opened(texts, memory, bits).owned.close();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    expect(leftOpen(before)).toEqual([]);
    expect(mapped(folder)).toBe(false);
    return (error as Error).message;
  }
  throw new Error("it was opened");
}

describe("persistent memory that opens", () => {
  test("is the file's bytes, shared: what is written is in the file; size and id are those given", () => {
    const path = file("shared", 4 * MiB, "hello");

    const { owned, devices, specs } = opened([
      `file=${path}`,
      `file=${file("two")},size=2M,id=log`,
    ]);
    const [{ size, hostAddress }] = specs as [PmemSpec];

    expect(devices.map(({ id }) => id)).toEqual(["_pmem0", "log"]);
    expect(devices.map(({ identity }) => identity.type)).toEqual([27, 27]); // virtio 1.2 section 5
    expect(specs.map((spec) => spec.size)).toEqual([4 * MiB, 2 * MiB]);
    expect(Buffer.from(copyFrom(hostAddress, 5)).toString()).toBe("hello");
    copyTo(hostAddress + size - 3, Buffer.from("end"));
    expect(readFileSync(path).subarray(-3).toString()).toBe("end");
    owned.close();
    expect(mapped(path)).toBe(false);
  });

  test("with discard_writes=on the file stays as it is, and may be read-only", () => {
    const path = file("private", 2 * MiB, "before");
    const { owned, specs } = opened([`file=${path},discard_writes=on,mergeable=on`]);
    const [{ hostAddress, discard }] = specs as [PmemSpec];

    copyTo(hostAddress, Buffer.from("after!"));

    expect(discard).toBe(true);
    expect(Buffer.from(copyFrom(hostAddress, 6)).toString()).toBe("after!");
    expect(readFileSync(path).subarray(0, 6).toString()).toBe("before");
    owned.close();
  });

  test("in a folder is memory of its size that nobody finds", () => {
    const before = readdirSync(folder);
    const { owned, specs } = opened([`file=${folder},size=6M`]);
    const [{ hostAddress, size }] = specs as [PmemSpec];

    copyTo(hostAddress + size - 1, Uint8Array.of(7));

    expect(copyFrom(hostAddress + size - 2, 2)).toEqual(Uint8Array.of(0, 7));
    expect(readdirSync(folder)).toEqual(before);
    owned.close();
  });

  test("merges its private pages where it is asked to, and only then", () => {
    for (const [keys, merges] of [
      ["discard_writes=on,mergeable=on", true],
      ["discard_writes=on", false],
    ] as const) {
      const { owned, specs } = opened([`file=${file("merge")},${keys}`]);
      const [{ hostAddress }] = specs as [PmemSpec];
      const smaps = readFileSync("/proc/self/smaps", "utf8");
      const own = smaps.slice(smaps.indexOf(`\n${hostAddress.toString(16)}-`));
      expect(/^VmFlags:.*\bmg\b/.test(/^VmFlags:.*$/m.exec(own)![0])).toBe(merges);
      owned.close();
    }
  });

  test("is its writer's alone; those that discard their writes share it", () => {
    const path = file("locked");
    const writer = opened([`file=${path}`]);
    expect(refusal2(path)).toContain(`in use by process ${process.pid}; end it first`);
    expect(refusal2(path, ",discard_writes=on")).toContain("in use by process");
    writer.owned.close();

    const two = opened([`file=${path},discard_writes=on`, `file=${path},discard_writes=on`]);
    expect(refusal2(path)).toContain("in use by process");
    two.owned.close();
  });
});

/** A refusal while others have files of the folder mapped. */
function refusal2(path: string, more = ""): string {
  try {
    opened([`file=${path}${more}`]);
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error("it was opened");
}

describe("its place", () => {
  const start = (memory: string) => {
    const { owned, specs } = opened([`file=${folder},size=2M`, `file=${folder},size=4M`], memory);
    owned.close();
    return specs.map((spec) => spec.start);
  };

  test.each([
    ["size=512M", 4 * GiB],
    ["size=3G", 4 * GiB],
    ["size=5G", 6 * GiB],
    ["size=5121M", 7 * GiB],
    ["size=512M,hotplug_size=10G", 14 * GiB],
    ["size=5G,hotplug_size=1M", 7 * GiB],
  ])("with %s is behind RAM and what it may grow into, by whole GiB", (memory, expected) => {
    expect(start(memory)).toEqual([expected, expected + GiB]);
  });

  test("never overlaps RAM, in KVM's slots or the e820 map", () => {
    for (const size of [64 * MiB, 3 * GiB, 3 * GiB + 2 * MiB, 130 * GiB]) {
      const [first] = start(`size=${size}`);
      const ends = ramLayout(size).map((range) => range.start + range.length);
      expect(first).toBeGreaterThanOrEqual(Math.max(...ends));
    }
  });

  test("is in the mapping that the guest and other devices' backends get", () => {
    const { owned, devices, specs } = opened([`file=${folder},size=2M`]);
    const [{ hostAddress }] = specs as [PmemSpec];
    expect(persistentRegions(devices)).toEqual([{ start: 4 * GiB, length: 2 * MiB, hostAddress }]);
    expect(hostAddress % (2 * MiB)).toBe(0);
    const config = new DataView(devices[0]!.config.buffer);
    expect([config.getBigUint64(0, true), config.getBigUint64(8, true)]).toEqual([
      BigInt(4 * GiB),
      BigInt(2 * MiB),
    ]);
    owned.close();
  });

  test("must fit the physical address bits", () => {
    expect(refusal([`file=${folder},size=2M`], "size=512M", 32)).toContain(
      "does not fit the physical address bits; raise --cpus max_phys_bits=",
    );
    expect(opened([`file=${folder},size=2M`], "size=512M", 33).owned.close()).toBeUndefined();
  });
});

describe("persistent memory that does not open:", () => {
  test.each([
    ["file=/nowhere/at/all", "no such file or directory; name a file or folder that chv may write"],
    [`file=${folder}`, "size= is missing, and a folder has none; add it"],
    [`file=${folder},size=3M`, "size of 3145728 bytes is not a whole number of 2M; round it"],
    [`file=${folder},size=0`, "size of 0 bytes is not a whole number of 2M; round it"],
    [`file=${file("odd", 3 * MiB)}`, "the file's size of 3145728 bytes is not a whole number"],
    [`file=${file("empty", 0)}`, "the file's size of 0 bytes is not a whole number"],
    [`file=${file("short", 2 * MiB)},size=4M`, "size=4194304 is above the file's 2097152"],
    [`file=${file("merge2")},mergeable=on`, "mergeable=on is for private pages; add discard"],
    ["file=/dev/null/below", "not a directory; name a file or folder"],
    ["file=/dev/null", "neither a file nor a folder; name one"],
  ])("%s", (text, why) => {
    const message = refusal([text]);
    expect(message).toStartWith(`--pmem ${text.slice(5).split(",")[0]}: `);
    expect(message).toContain(why);
  });

  test("takes those before it along", () => {
    const path = file("first");
    expect(refusal([`file=${path}`, "file=/nowhere"])).toContain("/nowhere");
    opened([`file=${path}`]).owned.close(); // its lock is gone too
    expect(existsSync(path) && statSync(path).size).toBe(4 * MiB);
  });
});
