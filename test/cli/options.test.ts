import { expect, test } from "bun:test";
import fc from "fast-check";
import { parseOptions } from "../../src/cli/options.ts";
import { quoteValue } from "../../src/cli/split.ts";
import { ConfigError, UsageError } from "../../src/exit-codes.ts";
import {
  ConsoleConfig,
  DiskConfig,
  FsConfig,
  NetConfig,
  PlatformConfig,
  PmemConfig,
  SerialConfig,
  VsockConfig,
} from "../../src/machine/config/devices.ts";
import { CpusConfig, MemoryConfig } from "../../src/machine/config/machine.ts";
import { ApiSocketConfig, EventMonitorConfig } from "../../src/machine/config/vmm.ts";
import { anyCharacter } from "../any-character.ts";

const memory = (text: string) => parseOptions(MemoryConfig, text, "--memory");
const cpus = (text: string) => parseOptions(CpusConfig, text, "--cpus");
const serial = (text: string) => parseOptions(SerialConfig, text, "--serial");
const disk = (text: string) => parseOptions(DiskConfig, text, "--disk");
const net = (text: string) => parseOptions(NetConfig, text, "--net");

test.each([
  ["1", 1],
  ["4096", 4096],
  ["3K", 3072],
  ["512M", 536_870_912],
  ["5G", 5_368_709_120],
  ["2T", 2_199_023_255_552],
  ["8191T", 9_006_099_743_113_216],
  ["9007199254740991", 9_007_199_254_740_991],
  ["0", 0],
])("a size of %s is %d bytes", (text, bytes) => {
  expect(memory(`size=${text}`).size).toBe(bytes);
});

test.each([
  "1.5G",
  "-1",
  "1g",
  "1KB",
  "1Ki",
  "G",
  "0x10",
  "1e3",
  "512 M",
  " 1",
  "8192T",
  "9007199254740992",
])("%s is no size", (text) => {
  expect(() => memory(`size=${text}`)).toThrow(UsageError);
});

test.each([
  ["on", true],
  ["true", true],
  ["off", false],
  ["false", false],
])("%s is a boolean", (text, value) => {
  expect(memory(`shared=${text}`).shared).toBe(value);
});

test.each(["yes", "1", "0", "ON", "onn"])("%s is no boolean", (text) => {
  expect(() => memory(`shared=${text}`)).toThrow(
    `--memory: shared=${text} is neither on nor off; write on, off, true or false`,
  );
});

test("a first value without a key fills the schema's bare field, and keys may follow", () => {
  expect(cpus("4").boot_vcpus).toBe(4);
  expect(cpus("4,max=8")).toMatchObject({ boot_vcpus: 4, max_vcpus: 8 });
  expect(memory("512M,shared=on")).toMatchObject({ size: 2 ** 29, shared: true });
  expect(serial("tty").mode).toBe("Tty");
});

test("only the first", () => {
  expect(() => cpus("max=8,4")).toThrow('--cpus: "4" has no key; write KEY=VALUE');
  expect(() => cpus("4,8")).toThrow('--cpus: "8" has no key; write KEY=VALUE');
});

test("all keys of memory, and their defaults", () => {
  expect(
    memory(
      "size=1G,file=/dev/shm,mergeable=on,shared=on,hugepages=on,prefault=on,thp=off," +
        "hotplug_size=2G,hotplug_method=acpi",
    ),
  ).toEqual({
    size: 2 ** 30,
    file: "/dev/shm",
    mergeable: true,
    shared: true,
    hugepages: true,
    prefault: true,
    thp: false,
    hotplug_size: 2 ** 31,
    hotplug_method: "Acpi",
  });
  expect(memory("size=1G")).toEqual({
    size: 2 ** 30,
    mergeable: false,
    shared: false,
    hugepages: false,
    prefault: false,
    thp: true,
    hotplug_size: 0,
    hotplug_method: "Acpi",
  });
});

test("topology is threads:cores:dies:packages", () => {
  expect(cpus("boot=2,topology=2:3:4:5").topology).toEqual({
    threads_per_core: 2,
    cores_per_die: 3,
    dies_per_package: 4,
    packages: 5,
  });
});

test.each(["1:2:3", "1:2:3:4:5", "a:1:1:1", "1:1:1:", "-1:1:1:1", "1.5:1:1:1"])(
  "topology=%s cannot be read",
  (text) => {
    expect(() => cpus(`topology=${text}`)).toThrow(UsageError);
  },
);

test.each([
  ["off", { mode: "Off" }],
  ["null", { mode: "Null" }],
  ["tty", { mode: "Tty" }],
  ["pty", { mode: "Pty" }],
  ["TTY", { mode: "Tty" }],
  ["file=/x", { mode: "File", file: "/x" }],
  ["file=/a=b", { mode: "File", file: "/a=b" }],
  ['file="/a,b"', { mode: "File", file: "/a,b" }],
  ["socket=/s", { mode: "Socket", socket: "/s" }],
  ["tty,iommu=on", { mode: "Tty", iommu: true }],
])("--serial %s", (text, expected) => {
  expect(serial(text)).toEqual({ iommu: false, ...expected } as never);
  expect(parseOptions(ConsoleConfig, text, "--console")).toEqual(serial(text));
});

test("an unknown key, word or mode names the nearest valid one", () => {
  expect(() => memory("sise=1G")).toThrow('--memory: unknown key "sise"; did you mean size?');
  expect(() => disk("pth=/x")).toThrow('--disk: unknown key "pth"; did you mean path?');
  expect(() => serial("tyt")).toThrow(/did you mean tty\?$/);
  expect(() => disk("image_type=qcow")).toThrow(/did you mean qcow2\?$/);
});

test("a JSON name that the command line spells otherwise is no key", () => {
  expect(() => cpus("boot_vcpus=4")).toThrow(UsageError);
  expect(() => disk("rate_limiter_config=1")).toThrow(UsageError);
});

test("names of every object's prototype are no keys", () => {
  for (const key of ["__proto__", "constructor", "toString"]) {
    expect(() => disk(`${key}=1`)).toThrow(UsageError);
  }
});

test("a key given twice is an error, under an alias and as a bare value too", () => {
  expect(() => memory("size=1G,size=1G")).toThrow("--memory: size= is given twice; keep one");
  expect(() => memory("1G,size=1G")).toThrow(UsageError);
  expect(() => parseOptions(VsockConfig, "cid=3,sock=/a,socket=/a", "--vsock")).toThrow(
    "--vsock: socket= is given twice; keep one",
  );
});

test("an empty value, an empty part and an empty option are errors", () => {
  for (const text of ["", "size=", "size=1G,", ",size=1G", "size=1G,,shared=on", 'size=""']) {
    expect(() => memory(text)).toThrow(UsageError);
  }
});

test("a missing key is an error that names it", () => {
  expect(() => parseOptions(PmemConfig, "size=1G", "--pmem")).toThrow(
    "--pmem: file= is missing; add it",
  );
  expect(() => parseOptions(FsConfig, "tag=x", "--fs")).toThrow("--fs: socket= is missing; add it");
  expect(() => disk("path=/x,bw_size=1")).toThrow("--disk: bw_refill_time= is missing; add it");
});

test("a number out of its range is readable, but no machine", () => {
  expect(() => cpus("0")).toThrow(ConfigError);
  expect(() => cpus("boot=300")).toThrow("--cpus: boot=300 is out of range; the most is 254");
  expect(() => cpus("max_phys_bits=64")).toThrow(ConfigError);
  expect(() => parseOptions(VsockConfig, "cid=2,socket=/s", "--vsock")).toThrow(ConfigError);
});

test("spellings of early 2020 are taken", () => {
  expect(parseOptions(VsockConfig, "cid=3,sock=/s", "--vsock")).toMatchObject({ socket: "/s" });
  expect(parseOptions(FsConfig, "tag=t,sock=/s", "--fs")).toMatchObject({ socket: "/s" });
});

test("rate limits stand among the disk's keys, and lie in an object of their own", () => {
  const text =
    "path=/x,bw_size=10,bw_one_time_burst=20,bw_refill_time=30,ops_size=1,ops_refill_time=2";

  expect(disk(text).rate_limiter_config).toEqual({
    bandwidth: { size: 10, one_time_burst: 20, refill_time: 30 },
    ops: { size: 1, refill_time: 2 },
  });
});

test("words are taken in any case, with or without dashes, and come out as in JSON", () => {
  expect(disk("path=/x,image_type=raw").image_type).toBe("Raw");
  expect(disk("path=/x,image_type=FixedVhd").image_type).toBe("FixedVhd");
  expect(memory("hotplug_method=virtio-mem").hotplug_method).toBe("VirtioMem");
});

test("a list stands in brackets, one item also without", () => {
  expect(net("fd=[3,4,5]").fds).toEqual([3, 4, 5]);
  expect(net("fd=3").fds).toEqual([3]);
  expect(() => net("fd=[3,x]")).toThrow(UsageError);
  expect(() => net("fd=[]")).toThrow(UsageError);
  const strings = (text: string) => parseOptions(PlatformConfig, text, "--platform").oem_strings;
  expect(strings("oem_strings=[a,b]")).toEqual(["a", "b"]);
  expect(strings('oem_strings="[a,b]"')).toEqual(["[a,b]"]); // in quotes it is one item
});

test.each(["ip=10.0.0.1", "ip=255.255.255.255", "mac=52:54:00:12:34:5A", "mtu=1500"])(
  "--net %s is good",
  (text) => {
    expect(net(text)).toBeDefined();
  },
);

test.each([
  "ip=10.0.0",
  "ip=10.0.0.256",
  "ip=10.0.0.1.",
  "ip=a.b.c.d",
  "mac=52:54:00:12:34",
  "mac=gg:54:00:12:34:56",
])("--net %s is not", (text) => {
  expect(() => net(text)).toThrow(UsageError);
});

test("a socket's path may hold an equals sign", () => {
  expect(parseOptions(ApiSocketConfig, "/run/a=b.sock", "--api-socket").path).toBe("/run/a=b.sock");
  expect(parseOptions(ApiSocketConfig, "path=/s,mode=0660,group=kvm", "--api-socket")).toEqual({
    path: "/s",
    mode: "0660",
    group: "kvm",
  });
});

test("--event-monitor takes a path or a descriptor, not both", () => {
  const monitor = (text: string) => parseOptions(EventMonitorConfig, text, "--event-monitor");

  expect(monitor("path=/x")).toEqual({ path: "/x" });
  expect(monitor("fd=3")).toEqual({ fd: 3 });
  expect(() => monitor("path=/x,fd=3")).toThrow(
    "--event-monitor takes either path= or fd=; give one of them",
  );
});

const schemas = [MemoryConfig, CpusConfig, SerialConfig, DiskConfig, NetConfig, VsockConfig];

test("whatever the text, a parse gives an object, or an error of ours of one line", () => {
  const word = fc.constantFrom(
    ...["size", "file", "path", "boot", "max", "topology", "mode", "tty", "fd", "bw_size", "cid"],
    ...["=", ",", ":", '"', "[", "]", "1", "512M", "on", "off", "-1", "\n", "\0", "é"],
  );
  const text = fc.oneof(
    fc.array(word).map((words) => words.join("")),
    fc.string({ unit: anyCharacter }),
  );
  fc.assert(
    fc.property(fc.constantFrom(...schemas), text, (schema, given) => {
      try {
        expect(parseOptions(schema, given, "--option")).toBeObject();
      } catch (error) {
        expect(error instanceof UsageError || error instanceof ConfigError).toBeTrue();
        expect((error as Error).message).toMatch(/^--option[^\n\r\0]*$/);
      }
    }),
    { numRuns: 3000 },
  );
});

test("what is written from values comes back as those values", () => {
  const name = fc.string({ unit: anyCharacter, minLength: 1 }).filter((one) => !one.includes("\0"));
  const given = fc.record(
    {
      path: name,
      serial: name,
      readonly: fc.boolean(),
      direct: fc.boolean(),
      num_queues: fc.integer({ min: 1, max: 256 }),
      image_type: fc.constantFrom("Raw" as const, "Qcow2" as const),
    },
    { requiredKeys: ["path"] },
  );
  const written = (value: string | boolean | number) =>
    typeof value === "boolean" ? (value ? "on" : "off") : quoteValue(String(value));
  fc.assert(
    fc.property(given, (values) => {
      const text = Object.entries(values).map(([key, value]) => `${key}=${written(value)}`);
      expect(disk(text.join(","))).toMatchObject(values);
    }),
  );
});
