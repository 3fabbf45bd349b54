/** `boot`'s options, as the command line reads them. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { CommandInput } from "../../src/cli/command.ts";
import { parseCommandLine } from "../../src/cli/command-line.ts";
import { commands } from "../../src/cli/commands.ts";
import type { RunOptions } from "../../src/cli/run/options.ts";
import { DiskConfig, NetConfig } from "../../src/machine/config/devices.ts";
import { CpusConfig, MemoryConfig } from "../../src/machine/config/machine.ts";
import { keysOf, type ObjectSchema } from "../../src/machine/config/shape.ts";
import { runArguments } from "../../src/sdk/arguments.ts";
import {
  type BootOptions,
  type Cpus,
  type Disk,
  type Duration,
  durationMs,
  type Memory,
  type Net,
} from "../../src/sdk/options.ts";

const noText = (): string => {
  throw new Error("no text here");
};

/** What chv makes of it. */
async function read(options: BootOptions, textFile = noText): Promise<CommandInput> {
  let input: CommandInput | undefined;
  const run = {
    ...commands.run!,
    schema: commands.run!.schema,
    run: async (given: CommandInput) => {
      input = given;
      return 0;
    },
  };
  const line = parseCommandLine(["run", ...runArguments(options, textFile)], { run });
  if (line.kind !== "command") throw new Error(`a ${line.kind}`);
  await line.run();
  return input!;
}

const optionsOf = async (options: Omit<BootOptions, "image">) =>
  (await read({ image: "i", ...options })).options as RunOptions;

test("every option reaches its place", async () => {
  const { positionals, options } = await read({
    image: "disk.img",
    ...{ kernel: "/k", initramfs: "/i", cmdline: "-x a=b", cmdlineAppend: "quiet" },
    ...{ bootEntry: "1", cpus: { boot: 2, max: 4 }, memory: "512M", diskSize: "20G" },
    disks: [
      "/a,b",
      { path: "/c", readonly: true, image_type: "fixed-vhd", bw_size: 1, bw_refill_time: 2 },
    ],
    net: [{ tap: "t0" }, { fd: [3, 4], num_queues: 4 }],
    fs: [{ tag: "t", socket: "/s" }],
    vsock: { cid: 3, socket: "/v" },
    platform: { virtio: "mmio" },
    ...{ backingFiles: true, keep: "/kept", tmpdir: "/t", timeout: "1.5s", consoleLog: "/l" },
    ...{ failOn: ["-oops", "BUG"], args: ["-v", "--progress"] },
    cloudInit: { hostname: "box", password: "a,b", userData: "/u" },
  });

  expect(positionals).toEqual(["disk.img"]);
  expect(options).toMatchObject({
    payload: {
      kernel: "/k",
      initramfs: "/i",
      cmdline: "-x a=b",
      cmdline_append: "quiet",
      boot_entry: "1",
    },
    cpus: { boot_vcpus: 2, max_vcpus: 4 },
    ...{ memory: { size: 2 ** 29 }, diskSize: 20 * 2 ** 30 },
    disks: [
      { path: "/a,b", readonly: false },
      {
        ...{ path: "/c", readonly: true, image_type: "FixedVhd" },
        rate_limiter_config: { bandwidth: { size: 1, refill_time: 2 } },
      },
    ],
    net: [{ tap: "t0" }, { fds: [3, 4], num_queues: 4 }],
    fs: [{ tag: "t", socket: "/s" }],
    vsock: { cid: 3, socket: "/v" },
    platform: { virtio: "mmio" },
    ...{ backingFiles: true, keep: "/kept", tmpdir: "/t", timeout: "1500ms", consoleLog: "/l" },
    ...{ failOn: ["-oops", "BUG"], progress: true },
    cloud_init: { hostname: "box", password: "a,b", user_data: "/u" },
  });
});

test("nothing but the image is chv run's own defaults", async () => {
  expect(await optionsOf({})).toMatchObject({ cpus: { boot_vcpus: 2 }, memory: { size: 2 ** 30 } });
  expect(runArguments({ image: "i" }, noText)).toEqual(["i"]);
});

test("numbers are bytes, and processors", async () => {
  expect(await optionsOf({ memory: 2 ** 29, cpus: 3 })).toMatchObject({
    ...{ memory: { size: 2 ** 29 }, cpus: { boot_vcpus: 3 } },
  });
});

test("text in place of a file is a descriptor's path", async () => {
  const texts: string[] = [];
  const textFile = (text: string) => `/fd/${texts.push(text)}`;
  const cloudInit = { userData: { text: "#!/bin/sh" }, sshKey: { text: "ssh-ed25519 x" } };
  const { options } = await read({ image: "i", cloudInit }, textFile as typeof noText);

  expect(options).toMatchObject({ cloud_init: { user_data: "/fd/1", ssh_key: "/fd/2" } });
  expect(texts).toEqual(["#!/bin/sh", "ssh-ed25519 x"]);
});

test("any path and any word arrives as it is", async () => {
  const word = fc.string({ minLength: 1 }).filter((text) => !text.includes("\0"));
  await fc.assert(
    fc.asyncProperty(word, word, async (path, cmdline) => {
      const { disks, payload } = await optionsOf({ disks: [{ path }], cmdline });

      expect([disks![0]!.path, payload.cmdline]).toEqual([path, cmdline]);
    }),
    { numRuns: 200 },
  );
});

type Listed<T> = Readonly<Record<keyof T, true>>;
const limits = {
  bw_size: true,
  bw_one_time_burst: true,
  bw_refill_time: true,
  ops_size: true,
  ops_one_time_burst: true,
  ops_refill_time: true,
} as const;
const disk: Listed<Disk> = {
  ...{ path: true, readonly: true, direct: true, iommu: true, num_queues: true, queue_size: true },
  ...{ io_threads: true, wce: true, vhost_user: true, socket: true, serial: true, id: true },
  ...{ image_type: true, backing_files: true, sparse: true, pci_segment: true },
  ...limits,
};
const net: Listed<Net> = {
  ...{ tap: true, ip: true, mask: true, mac: true, host_mac: true, mtu: true, iommu: true },
  ...{ num_queues: true, queue_size: true, vhost: true, vhost_user: true, socket: true, fd: true },
  ...{ offload_tso: true, offload_ufo: true, offload_csum: true, id: true, pci_segment: true },
  io_threads: true,
  ...limits,
};
const cpus: Listed<Cpus> = { boot: true, max: true, topology: true, max_phys_bits: true };
const memory: Listed<Memory> = {
  ...{ size: true, file: true, mergeable: true, shared: true, hugepages: true, prefault: true },
  ...{ thp: true, hotplug_size: true, hotplug_method: true },
};

test.each([
  ["disk", DiskConfig, disk],
  ["net", NetConfig, net],
  ["cpus", CpusConfig, cpus],
  ["memory", MemoryConfig, memory],
] as const)("the type of %s has the schema's keys", (_, schema, listed) => {
  const keys = keysOf(schema as ObjectSchema).map(({ key }) => key);

  expect(Object.keys(listed).toSorted()).toEqual(keys.toSorted());
});

test("times", () => {
  const given: Duration[] = [250, "500ms", "1.5s", "2m", "1h"];
  expect(given.map(durationMs)).toEqual([250, 500, 1500, 120_000, 3_600_000]);
  expect(() => durationMs("soon" as Duration)).toThrow("soon is no time; write milliseconds");
  expect(() => durationMs(-1)).toThrow(TypeError);
});
