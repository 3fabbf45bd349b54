import { expect, test } from "bun:test";
import fc from "fast-check";
import * as v from "valibot";
import { version } from "../../package.json";
import type { Command, CommandInput } from "../../src/cli/command.ts";
import { type CommandLine, parseCommandLine } from "../../src/cli/command-line.ts";
import { ConfigError, UsageError } from "../../src/exit-codes.ts";
import { onOff, path } from "../../src/machine/config/field.ts";
import { anyCharacter } from "../any-character.ts";

function boot(...argv: string[]): CommandLine & { kind: "boot" } {
  const line = parseCommandLine(argv);
  if (line.kind !== "boot") throw new Error(`${line.kind} instead of a boot`);
  return line;
}
const k = (...argv: string[]) => boot("--kernel", "/k", ...argv);

/** The error of a command line: its exit code and its text. */
function failure(...argv: string[]): [number, string] {
  try {
    parseCommandLine(argv);
  } catch (error) {
    if (error instanceof UsageError || error instanceof ConfigError) {
      return [error.exitCode, error.message];
    }
    throw error;
  }
  throw new Error("no error");
}

async function printed(...argv: string[]): Promise<[number, string]> {
  const line = parseCommandLine(argv);
  if (line.kind !== "print") throw new Error(`${line.kind} instead of a print`);
  return [line.exitCode, await line.text()];
}

test("a kernel alone makes a whole machine, with its console on the terminal", () => {
  expect(boot("--kernel", "/k").config).toEqual({
    payload: { kernel: "/k", kernel_entry: "auto" },
    cpus: { boot_vcpus: 1, max_vcpus: 1, max_phys_bits: 46 },
    memory: {
      size: 536_870_912,
      mergeable: false,
      shared: false,
      hugepages: false,
      prefault: false,
      thp: true,
      hotplug_size: 0,
      hotplug_method: "Acpi",
    },
    serial: { mode: "Null", iommu: false },
    console: { mode: "Tty", iommu: false },
    auto_console: true,
    rng: { src: "/dev/urandom", iommu: false },
    watchdog: false,
    pvpanic: false,
  });
  expect(boot("--kernel", "/k").options).toEqual({
    verbosity: 0,
    logFormat: "text",
    seccomp: "false",
    ...{ onReboot: "restart", onPoweroff: "exit", onPanic: "exit" },
  });
});

test("ports with names keep their order", () => {
  const { config } = boot(
    ...["--kernel", "/k", "--port", "org.chv.0,socket=/s", "name=b,mode=pty", "--serial", "off"],
    ...["--console=null", "--port", "c,file=/f,console=on", "--port=d,mode=tty"],
  );

  expect(config.ports).toEqual([
    { name: "org.chv.0", mode: "Socket", socket: "/s", console: false },
    { name: "b", mode: "Pty", console: false },
    { name: "c", mode: "File", file: "/f", console: true },
    { name: "d", mode: "Tty", console: false },
  ]);
});

test("everything that a boot takes today", () => {
  const { config, options } = boot(
    ...["--kernel", "/k,x", "--initramfs=/i", "--cmdline", "console=ttyS0 -- x", "-v"],
    ...["--cpus", "boot=2,max=4,topology=1:2:1:2,max_phys_bits=40", "--kernel-entry", "bzimage"],
    ...["--memory", "size=1G,shared=on,hotplug_size=2G", "--serial", "socket=/s", "-vv"],
    ...["--console", "null", "--event-monitor", "fd=3", "--log-file", "/l", "--log-format=json"],
  );

  expect(config.payload).toEqual({
    kernel: "/k,x",
    initramfs: "/i",
    cmdline: "console=ttyS0 -- x",
    kernel_entry: "bzimage",
  });
  expect(config.cpus).toEqual({
    boot_vcpus: 2,
    max_vcpus: 4,
    max_phys_bits: 40,
    topology: { threads_per_core: 1, cores_per_die: 2, dies_per_package: 1, packages: 2 },
  });
  expect(config.memory).toMatchObject({ size: 2 ** 30, shared: true, hotplug_size: 2 ** 31 });
  expect(config.serial).toMatchObject({ mode: "Socket", socket: "/s" });
  expect(config.console.mode).toBe("Null");
  expect(options).toEqual({
    verbosity: 3,
    logFile: "/l",
    logFormat: "json",
    eventMonitor: { fd: 3 },
    seccomp: "false",
    ...{ onReboot: "restart", onPoweroff: "exit", onPanic: "exit" },
  });
});

test.each([
  "",
  " leading and trailing ",
  "tab\tnewline\nreturn\r",
  'dm-mod.create="dm-verity,,,ro,0 1 verity" a=[b',
  "héllo \u{1f980}",
  "key=$HOME `x` \\ '",
  "--help",
  "-- --help",
])("--cmdline=%j is passed byte for byte", (text) => {
  expect(k(`--cmdline=${text}`).config.payload.cmdline).toBe(text);
});

test("a bare number is enough for --cpus, and max follows boot", () => {
  expect(k("--cpus", "4").config.cpus).toMatchObject({ boot_vcpus: 4, max_vcpus: 4 });
  expect(k("--cpus", "254").config.cpus.max_vcpus).toBe(254);
});

test("no arguments print help and exit 240", async () => {
  const [code, text] = await printed();

  expect(code).toBe(240);
  expect(text).toContain("--kernel");
});

test.each(["--version", "-V", "-vV"])("%s prints exactly `chv X.Y.Z`", async (flag) => {
  expect(await printed(flag)).toEqual([0, `chv ${version}`]);
  expect(version).toMatch(/^\d+\.\d+\.\d+$/);
});

test.each(["--help", "-h"])("%s prints help and exits 0", async (flag) => {
  const [code, text] = await printed(flag);

  expect(code).toBe(0);
  expect(text).toContain("USAGE");
});

test("--help after another option is help, --help as a value is not", async () => {
  expect((await printed("--memory", "1G", "--help"))[0]).toBe(0);
  expect(failure("--kernel", "--help")[0]).toBe(240);
});

test("plain chv takes nothing after --, and never prints help for what stands there", () => {
  expect(failure("--kernel", "/k", "--", "--help")).toEqual([
    240,
    "--: plain chv takes nothing after it; remove it and what follows",
  ]);
});

test.each<[string, number, RegExp]>([
  ["--kernle /k", 240, /^unknown option "--kernle"; did you mean --kernel\?$/],
  ["--kernel /k --memory sise=1G", 240, /^--memory: unknown key "sise"; did you mean size\?$/],
  ["--kernel /k --memory size=lots", 240, /^--memory: size=lots is not a size; write bytes/],
  ["--kernel /k --kernel-entry x", 240, /^--kernel-entry: "x" is not one of auto, bzimage, direct/],
  ["--kernel /k --log-format xml", 240, /^--log-format: "xml" is not one of text, json;/],
  ["--kernel=", 240, /^--kernel: "" is empty; write a value$/],
  ["--kernel /k --watchdog=maybe", 240, /^--watchdog: "maybe" is neither on nor off/],
  ["--kernel /k extra", 240, /^unexpected argument "extra"; options begin with --$/],
  ["--kernel /k /l", 240, /^unexpected argument "\/l"/],
  [
    "--memory 1G",
    242,
    /^--kernel: no kernel to boot; give one with --kernel PATH, or a disk that has one$/,
  ],
  ["--kernel /k --cpus 0", 242, /^--cpus: boot=0 is out of range; the least is 1$/],
  ["--kernel /k --cpus 255", 242, /^--cpus: boot=255 is out of range; the most is 254$/],
  ["--kernel /k --cpus 4,max=2", 242, /^--cpus: boot=4 is above max=2; raise max$/],
  ["--kernel /k --serial tty --console tty", 242, /^--serial tty and --console tty: both want/],
  ["--kernel /k --serial tty", 242, /^--serial tty and --console tty: both want the terminal;/],
  [
    "--kernel /k --memory 4M,hugepages=on,file=/f",
    242,
    /^--memory: hugepages=on and file= exclude/,
  ],
  ["--kernel /k --api-token-file /t", 240, /^--api-token-file is for clients of --api-listen; add/],
  ["--kernel /k --port a/b,mode=null", 240, /^--port: name=a\/b is not a port's name, such as org/],
  ["--kernel /k --port a,mode=off", 240, /^--port: mode=off is not one of null, tty, file,/],
  ["--kernel /k --port a", 240, /^--port: mode= is missing; add it$/],
])("%s fails with %d", (text, code, message) => {
  const [actual, why] = failure(...text.split(" "));

  expect(actual).toBe(code);
  expect(why).toMatch(message);
  expect(why).not.toContain("\n");
});

test.each([
  "--seccomp true",
  "--fs tag=x,socket=/s",
  "--vsock cid=3,socket=/s",
  "--device path=/sys/x",
])("%s is refused by name while its device is not built", (text) => {
  const argv = text.split(" ");

  const [code, why] = failure("--kernel", "/k", ...argv);

  expect(code).toBe(242);
  expect(why).toStartWith(`${argv[0]}: not built in this version of chv`);
});

test.each([
  "--memory hotplug_method=virtio-mem",
  "--serial null,iommu=on",
  "--console null,iommu=on",
  "--disk path=/x,iommu=on",
  "--net tap=x,iommu=on",
  "--net tap=x,vhost_user=on",
  "--net tap=x,socket=/s",
  "--net tap=x,pci_segment=1",
  "--rng src=/dev/random,iommu=on",
  "--disk path=/x,vhost_user=on",
  "--disk socket=/s",
  "--disk path=/x,pci_segment=1",
  "--pmem file=/x,iommu=on",
  "--pmem file=/x,pci_segment=1",
  "--disk path=/x,image_type=vhdx",
])("%s is refused although the option is built", (text) => {
  expect(failure("--kernel", "/k", ...text.split(" "))[1]).toContain("not built");
});

test("a value that asks for nothing boots", () => {
  const argv = "--console off --seccomp false --watchdog=off --balloon 0 --platform virtio=pci";

  expect(k(...argv.split(" ")).kind).toBe("boot");
});

test("an unbuilt option is read before it is refused", () => {
  expect(failure("--kernel", "/k", "--disk", "pth=/x")[0]).toBe(240);
});

test("a plain boot's argv of Cloud Hypervisor's drivers is read", () => {
  // Go 2026 and 2021; the API itself is refused until it is built.
  const bare = parseCommandLine(["--api-socket", "/run/x.sock", "-v", "--seccomp", "false"]);
  expect(bare).toMatchObject({ kind: "serve", options: { apiSocket: { path: "/run/x.sock" } } });
  expect(k("--api-socket", "/run/x.sock").options.apiSocket?.path).toBe("/run/x.sock");
  expect(failure("--api-socket", "/run/x.sock", "--cpus", "2")[1]).toStartWith(
    "--kernel: no kernel",
  );
});

/** A command as later ones will be: options, one positional, arguments after `--`. */
function withCommand(takesRest = true) {
  const inputs: CommandInput[] = [];
  const command: Command = {
    description: "Run an image",
    schema: v.object({
      keep: v.optional(path("Keep the disk")),
      quiet: v.optional(onOff("Say less"), false),
    }),
    positionals: [["image", "Disk image"]],
    takesRest,
    run: async (input) => {
      inputs.push(input);
      return 7;
    },
  };
  const parse = (...argv: string[]) => parseCommandLine(argv, { run: command });
  return { parse, inputs };
}

test("a command gets its own options, positionals, and the rest byte for byte", async () => {
  const { parse, inputs } = withCommand();

  const line = parse("-v", "run", "img", "--keep=/d", "-v", "--", "--help", "", "a b", "--");

  if (line.kind !== "command") throw new Error(line.kind);
  expect(line.options.verbosity).toBe(2);
  expect(await line.run()).toBe(7);
  expect(inputs).toEqual([
    {
      options: { keep: "/d", quiet: false },
      positionals: ["img"],
      rest: ["--help", "", "a b", "--"],
      vmm: line.options,
    },
  ]);
});

test("a command never also boots, and a machine's option before it is an error", () => {
  const { parse } = withCommand();

  expect(parse("run", "img").kind).toBe("command");
  expect(() => parse("--kernel", "/k", "run", "img")).toThrow(
    "--kernel is no option of the command run; remove it, or give it after run",
  );
  expect(() => parse("run", "--kernel", "/k")).toThrow(UsageError);
});

test("an option of the process is given once, before the command or after it", () => {
  const { parse } = withCommand();

  expect(parse("--log-file", "/a", "run")).toMatchObject({ options: { logFile: "/a" } });
  expect(parse("run", "--log-file", "/a")).toMatchObject({ options: { logFile: "/a" } });
  expect(() => parse("--log-file", "/a", "run", "--log-file", "/a")).toThrow(
    "--log-file is given twice; keep one",
  );
});

test("a command has its own help, and says no to -- when it takes nothing there", async () => {
  const { parse } = withCommand(false);

  const line = parse("run", "--help");
  if (line.kind !== "print") throw new Error(line.kind);
  const text = await line.text();
  expect(text).toContain("Run an image");
  expect(text).toContain("--keep");
  expect(text).not.toContain("--kernel");
  expect(() => parse("run", "img", "--", "x")).toThrow("--: run takes nothing after it");
});

test("an unknown command names the nearest", () => {
  expect(() => withCommand().parse("rnu")).toThrow('unknown command "rnu"; did you mean run?');
});

test("whatever argv is, the answer is a boot, a text, or an error of one line", () => {
  const word = fc.constantFrom(
    ...[
      "--kernel",
      "/k",
      "--cpus",
      "--memory",
      "--serial",
      "--disk",
      "-v",
      "-vV",
      "--",
      "--cmdline",
    ],
    ...["4", "512M", "tty", "size=1G,shared=on", "path=/x", "-", "--x", "boot=", "\n", "", "run"],
  );
  const argument = fc.oneof({ weight: 4, arbitrary: word }, fc.string({ unit: anyCharacter }));
  fc.assert(
    fc.property(fc.array(argument, { maxLength: 8 }), (argv) => {
      try {
        expect(["boot", "print", "command"]).toContain(parseCommandLine(argv).kind);
      } catch (error) {
        expect(error instanceof UsageError || error instanceof ConfigError).toBeTrue();
        expect((error as Error).message).toMatch(/^[^\n\r]+$/);
      }
    }),
    { numRuns: 1000 },
  );
});

test("a value of several that cannot be read is named by its option", () => {
  expect(failure("run", "image", "--env", "A=1", "B")).toEqual([
    240,
    '--env: "B" is not a variable, such as NAME=VALUE',
  ]);
});
