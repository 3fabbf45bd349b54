import { expect, test } from "bun:test";
import * as v from "valibot";
import { ConfigError } from "../../../src/exit-codes.ts";
import { checkBoot, checkConfig } from "../../../src/machine/config/check.ts";
import { complete, type VmConfig, VmConfigSchema } from "../../../src/machine/config/vm.ts";

const MiB = 2 ** 20;

/** A configuration as an API body would give it. */
const config = (json: v.InferInput<typeof VmConfigSchema>): VmConfig =>
  complete(v.parse(VmConfigSchema, json));
const check = (json: v.InferInput<typeof VmConfigSchema>) => () => checkConfig(config(json));
const topology = (threads: number, cores: number, dies: number, packages: number) => ({
  threads_per_core: threads,
  cores_per_die: cores,
  dies_per_package: dies,
  packages,
});

test("an empty body is a whole configuration", () => {
  expect(check({})).not.toThrow();
});

test("boot is at most max", () => {
  expect(check({ cpus: { boot_vcpus: 4, max_vcpus: 4 } })).not.toThrow();
  expect(check({ cpus: { boot_vcpus: 5, max_vcpus: 4 } })).toThrow(
    "--cpus: boot=5 is above max=4; raise max",
  );
});

test("the product of the topology is max", () => {
  expect(check({ cpus: { max_vcpus: 24, topology: topology(2, 3, 2, 2) } })).not.toThrow();
  expect(check({ cpus: { max_vcpus: 8, topology: topology(2, 3, 1, 1) } })).toThrow(
    "--cpus: topology=2:3:1:1 makes 6 vCPUs, max is 8; make them equal",
  );
  expect(check({ cpus: { boot_vcpus: 2, topology: topology(1, 4, 1, 1) } })).toThrow(ConfigError);
});

test.each([
  [2 * MiB, true],
  [2 * MiB - 4096, false],
  [3 * MiB + 4096, true],
  [3 * MiB + 1, false],
  [128 * 1024 * MiB, true],
  [0, false],
])("memory of %d bytes: %p", (size, good) => {
  if (good) expect(check({ memory: { size } })).not.toThrow();
  else expect(check({ memory: { size } })).toThrow(/^--memory: size=\d+ is /);
});

test("with huge pages memory is whole huge pages", () => {
  expect(check({ memory: { size: 4 * MiB, hugepages: true } })).not.toThrow();
  expect(check({ memory: { size: 5 * MiB, hugepages: true } })).toThrow(
    "--memory: size=5242880 is not a whole number of huge pages of 2M; round it",
  );
  expect(check({ memory: { hotplug_size: 5 * MiB, hugepages: true } })).toThrow(/hotplug_size=/);
});

test("memory, what it may grow by and the hole fit the physical address bits", () => {
  const bits = (size: number, hotplug_size: number) =>
    check({ cpus: { max_phys_bits: 36 }, memory: { size, hotplug_size } });

  expect(bits(63 * 1024 * MiB, 0)).not.toThrow();
  expect(bits(64 * 1024 * MiB, 0)).toThrow(/do not fit 36 physical address bits/);
  expect(bits(32 * 1024 * MiB, 32 * 1024 * MiB)).toThrow(ConfigError);
});

test("mergeable memory is private and anonymous", () => {
  expect(check({ memory: { mergeable: true } })).not.toThrow();
  expect(check({ memory: { mergeable: true, shared: true } })).toThrow(
    /mergeable=on and shared=on/,
  );
  expect(check({ memory: { mergeable: true, hugepages: true } })).toThrow(
    /mergeable=on and hugepages=on/,
  );
  expect(check({ memory: { mergeable: true, file: "/f" } })).toThrow(/mergeable=on and file=/);
});

test("a file mode needs its path, another mode has none", () => {
  expect(check({ serial: { mode: "File", file: "/f" } })).not.toThrow();
  expect(check({ serial: { mode: "File" } })).toThrow(
    "--serial: file needs a path; write file=PATH",
  );
  expect(check({ serial: { mode: "Socket" } })).toThrow(/^--serial: socket needs a path/);
  expect(check({ console: { mode: "Tty", file: "/f" }, serial: { mode: "Null" } })).toThrow(
    "--console: tty and file= exclude each other; drop one",
  );
});

test("two terminals are refused, and both are named", () => {
  expect(check({ serial: { mode: "Tty" }, console: { mode: "Tty" } })).toThrow(
    /^--serial tty and --console tty: both want the terminal; /,
  );
});

test("one device at most is on the terminal", () => {
  const tty = { mode: "Tty" } as const;
  const off = { mode: "Off" } as const;
  const port = { name: "a", mode: "Tty" } as const;
  const why = "both want the terminal; set one of them to off, null, pty, file= or socket=";

  expect(check({ serial: tty, console: off })).not.toThrow();
  expect(check({ serial: tty, console: tty })).toThrow(`--serial tty and --console tty: ${why}`);
  expect(check({ serial: tty })).toThrow("--serial tty and --console tty: both want");
  expect(check({ ports: [port] })).toThrow("--console tty and --port a,mode=tty: both want");
  expect(check({ console: off, ports: [port] })).not.toThrow();
  expect(check({ console: off, ports: [port, { ...port, name: "b" }] })).toThrow(
    "--port a,mode=tty and --port b,mode=tty: both want",
  );
});

test("ports are at most eight, each with a name and a far end of its own", () => {
  const ports = Array.from({ length: 9 }, (_, i) => ({ name: `p${i}`, mode: "Null" as const }));

  expect(check({ ports: ports.slice(1) })).not.toThrow();
  expect(check({ ports })).toThrow("--port: 9 ports, and 8 is the most; give fewer");
  expect(check({ ports: [ports[0]!, ports[0]!] })).toThrow(
    "--port p0: the name is given twice; choose another",
  );
  expect(check({ ports: [{ name: "p", mode: "File" }] })).toThrow("--port p: file needs a path");
  expect(check({ ports: [{ name: "p", mode: "Null", socket: "/s" }] })).toThrow(
    "--port p: null and socket= exclude each other",
  );
});

test("a boot needs a kernel; a configuration that is only stored does not", () => {
  expect(() => checkBoot(config({}))).toThrow(/^--kernel: no kernel to boot/);
  expect(checkBoot(config({ payload: { kernel: "/k" } })).payload.kernel).toBe("/k");
});

test("a firmware takes the place of a kernel and of all that goes with one", () => {
  const firmware = "/fw";
  const payload = (more: object) => config({ payload: { firmware, ...more }, disks: [] });

  expect(checkBoot(payload({})).payload.firmware).toBe(firmware);
  expect(() => checkBoot(payload({ cmdline: "a", cmdline_append: "b" }))).not.toThrow();
  for (const [key, option] of [
    ["kernel", "--kernel"],
    ["initramfs", "--initramfs"],
    ["boot_entry", "--boot-entry"],
  ] as const) {
    expect(() => checkBoot(payload({ [key]: "/x" }))).toThrow(
      new RegExp(`^${option}: .*--firmware`),
    );
  }
  expect(() => checkBoot(payload({ kernel_entry: "direct" }))).toThrow(
    /^--kernel-entry: .*--firmware is in its place/,
  );
});

test("what asks for nothing boots, what asks for an unbuilt device does not", () => {
  const payload = { kernel: "/k" };
  const idle = { disks: [], net: [], fs: [], pmem: [], devices: [], balloon: { size: 0 } };

  expect(() => checkBoot(config({ payload, ...idle, watchdog: false }))).not.toThrow();
  expect(() => checkBoot(config({ payload, vsock: { cid: 3, socket: "/s" } }))).toThrow(
    /^--vsock: not built/,
  );
  expect(() => checkBoot(config({ payload, platform: { num_pci_segments: 2 } }))).toThrow(
    /^--platform num_pci_segments=: not built/,
  );
});

test("every rule's error names its option first", () => {
  try {
    checkConfig(config({ memory: { size: 1 } }));
    throw new Error("no error");
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).option).toBe("--memory");
    expect((error as ConfigError).exitCode).toBe(242);
  }
});
