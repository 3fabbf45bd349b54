import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "valibot";
import { parseOptions } from "../../../src/cli/options.ts";
import type { BlockSpec } from "../../../src/devices/virtio/block-config.ts";
import { ConfigError } from "../../../src/exit-codes.ts";
import { DiskConfig } from "../../../src/machine/config/devices.ts";
import { type BootConfig, complete, VmConfigSchema } from "../../../src/machine/config/vm.ts";
import { Owned } from "../../../src/machine/owned.ts";
import { openDevices } from "../../../src/machine/virtio/devices.ts";
import { plug, type VirtioSpec } from "../../../src/machine/virtio/spec.ts";
import { leftOpen, openFiles } from "../proc.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-disks-"));
afterAll(() => rmSync(folder, { recursive: true }));

function image(name: string, bytes: number): string {
  const path = join(folder, name);
  writeFileSync(path, "");
  truncateSync(path, bytes);
  return path;
}

interface Disks {
  readonly owned: Owned;
  readonly disks: readonly VirtioSpec[];
  readonly specs: readonly BlockSpec[];
}

/** What the machine opens for a configuration with these disks and nothing else. */
function opened(...texts: string[]): Disks {
  const owned = new Owned();
  const disks = texts.map((text) => parseOptions(DiskConfig, text, "--disk"));
  const config = { ...complete(parse(VmConfigSchema, { rng: undefined })), disks };
  try {
    const plugged = plug(openDevices(config as BootConfig, owned), owned);
    const blocks = plugged.filter(({ backend }) => backend.kind === "block");
    return { owned, disks: blocks, specs: blocks.map(({ backend }) => backend.spec as BlockSpec) };
  } catch (error) {
    owned.close();
    throw error;
  }
}

const closeAll = ({ owned }: Disks): void => owned.close();

/** The message of the ConfigError; nothing may be left open. */
function refusal(...texts: string[]): string {
  const before = openFiles();
  try {
    closeAll(opened(...texts));
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    expect(leftOpen(before)).toEqual([]);
    return (error as Error).message;
  }
  throw new Error("it was opened");
}

describe("a disk that opens", () => {
  test("has its size in sectors, its name and its serial number", () => {
    const path = image("one", 3 * 1024 * 1024 + 700);

    const all = opened(`path=${path}`, `path=${image("two", 512)},id=data,serial=S1`);
    const { disks, specs } = all;

    expect(disks.map(({ id }) => id)).toEqual(["_disk0", "data"]);
    expect(specs.map(({ sectors }) => sectors)).toEqual([6145, 1]);
    expect(specs.map(({ serial }) => serial)).toEqual(["_disk0", "S1"]);
    expect(disks[0]!.identity.type).toBe(2); // virtio 1.2 section 5: block device
    closeAll(all);
  });

  test("has the limits that were asked for; a bucket of size 0 is none", () => {
    const path = image("limited", 4096);
    const limits =
      "bw_size=1048576,bw_refill_time=100,bw_one_time_burst=5,ops_size=0,ops_refill_time=7";

    const all = opened(
      `path=${path},${limits}`,
      `path=${image("free", 512)},ops_size=0,ops_refill_time=1`,
    );

    expect(all.specs.map((spec) => spec.limits)).toEqual([
      { bytes: { size: 2 ** 20, oneTimeBurst: 5, refillMs: 100 } },
      undefined,
    ]);
    closeAll(all);
  });

  test("has I/O threads of its own if that is asked for", () => {
    const [one, two] = [image("threads1", 512), image("threads2", 512)];
    const all = opened(`path=${one},num_queues=4,io_threads=3`, `path=${two}`);
    expect(all.disks.map(({ workers }) => workers)).toEqual([[1, 2, 3], [0]]);
    closeAll(all);
  });

  test("keeps sector 0 as it is unless its format was named", () => {
    const all = opened(
      `path=${image("probed", 512)}`,
      `path=${image("named", 512)},image_type=raw`,
    );
    expect(all.specs.map(({ guarded }) => guarded)).toEqual([true, false]);
    closeAll(all);
  });

  test("is its writer's alone; readers share it", () => {
    const path = image("shared", 4096);
    const writer = opened(`path=${path}`);
    expect(refusal(`path=${path}`)).toContain(`in use by process ${process.pid}; end it first`);
    expect(refusal(`path=${path},readonly=on`)).toContain("in use by process");
    closeAll(writer);

    const readers = opened(`path=${path},readonly=on`, `path=${path},readonly=on`);
    expect(refusal(`path=${path}`)).toContain("in use by process");
    closeAll(readers);
  });
});

describe("a disk that does not", () => {
  test.each([
    ["readonly=on", "path= is missing; add it"],
    ["path=/nowhere/disk", "no such file or directory; name an image that chv may write"],
    [`path=${folder},readonly=on`, "neither a file nor a block device; name an image"],
    ["path=/dev/null", "neither a file nor a block device; name an image"],
    [`path=${image("empty", 0)}`, "smaller than one sector of 512 bytes"],
    [`path=${image("odd", 4096 + 512)},direct=on`, "whole blocks of 4096 bytes; extend it"],
    [`path=${image("q", 4096)},queue_size=100`, "queue_size=100 is not a power of two"],
    [`path=${image("q", 4096)},num_queues=19`, "num_queues=19 is above 18; lower it"],
    [
      `path=${image("q", 4096)},num_queues=2,io_threads=3`,
      "io_threads=3 is above num_queues=2; raise num_queues",
    ],
    [
      `path=${image("q", 4096)},num_queues=2,io_threads=2,ops_size=1,ops_refill_time=1`,
      "io_threads=2 and bw_ and ops_ limits exclude each other; lower it to 1",
    ],
  ])("%s: %s", (text, why) => {
    expect(refusal(text)).toContain(why);
  });

  test("is of another format, unless raw was asked for", () => {
    const path = image("vmdk", 65536);
    writeFileSync(path, "KDMV", { flag: "r+" });

    expect(refusal(`path=${path}`)).toContain("a VMDK image, which chv does not serve; convert it");
    closeAll(opened(`path=${path},image_type=raw`));
  });

  test("takes those before it along", () => {
    expect(refusal(`path=${image("first", 4096)}`, "path=/nowhere")).toContain("/nowhere");
    closeAll(opened(`path=${join(folder, "first")}`)); // its lock is gone too
  });

  test("has another's name", () => {
    const [one, two] = [image("id1", 4096), image("id2", 4096)];
    expect(refusal(`path=${one},id=a`, `path=${two},id=a`)).toContain(
      `--disk ${two}: id=a names --disk ${one} too`,
    );
    expect(refusal(`path=${one},id=_disk1`, `path=${two}`)).toContain("id=_disk1 names --disk");
  });

  test("is one too many", () => {
    const path = image("many", 4096);
    const many = Array.from({ length: 32 }, () => `path=${path},readonly=on`);
    expect(refusal(...many)).toContain("devices for 31 PCI slots");
  });
});
