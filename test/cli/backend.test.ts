/** The command line of the backends that are processes of their own. */
import { expect, test } from "bun:test";
import { runNet } from "../../src/cli/backend.ts";
import { parseCommandLine } from "../../src/cli/command-line.ts";
import { commands } from "../../src/cli/commands.ts";
import { ConfigError, UsageError } from "../../src/exit-codes.ts";

/** What a command is run with. */
async function optionsOf(name: string, ...argv: string[]): Promise<unknown> {
  let seen: unknown;
  const command = {
    ...commands[name]!,
    run: async ({ options }: { options: unknown }) => {
      seen = options;
      return 0;
    },
  };
  const line = parseCommandLine(argv, { ...commands, [name]: command });
  if (line.kind !== "command") throw new Error(`test: ${line.kind}`);
  await line.run();
  return seen;
}

function failure(argv: readonly string[]): readonly [number, string] {
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

test("backend block takes a socket and an image with a disk's keys", async () => {
  const image = "/d,readonly=on,direct=on,num_queues=4,queue_size=256";

  expect(
    await optionsOf("backend block", "backend", "block", "--socket", "/s", "--image", image),
  ).toEqual({
    socket: "/s",
    image: {
      ...{ path: "/d", readonly: true, direct: true, num_queues: 4, queue_size: 256 },
      ...{ sparse: true, wce: true, backing_files: false },
    },
  });
});

test("backend net takes a tap, an address or a mask first, and a network interface's keys", async () => {
  const net = ["--tap", "t0,num_queues=4", "--ip", "10.0.0.1", "--mask", "255.0.0.0,mtu=9000"];

  expect(await optionsOf("backend net", "backend", "net", "--socket", "/s", ...net)).toEqual({
    socket: "/s",
    tap: { tap: "t0", num_queues: 4 },
    ip: { ip: "10.0.0.1" },
    mask: { mask: "255.0.0.0", mtu: 9000 },
  });
});

test("a key of the interface that two of its options have is an error", () => {
  const options = { socket: "/s", tap: { tap: "t", mtu: 68 }, ip: { mtu: 69 }, mask: {} };

  expect(() => runNet(options as never)).toThrow(/^--ip: mtu= is given twice; keep one$/);
});

test.each([
  [["backend"], 240, /^unknown command "backend"; did you mean backend (block|net)\?$/],
  [["backend", "blok"], 240, /^unknown command "backend blok"; did you mean backend block\?$/],
  [["backend", "block", "--image", "/d"], 240, /^--socket is missing; give it$/],
  [["backend", "block", "--socket", "/s"], 240, /^--image is missing; give it$/],
  [
    ["--kernel", "/k", "backend", "block"],
    240,
    /^--kernel is no option of the command backend block/,
  ],
  [
    ["--block-backend", "image=/d,sock=/s", "--kernel", "/k"],
    240,
    /^--block-backend runs a backend and no machine; leave out --kernel$/,
  ],
  [["--block-backend", "image=/d"], 240, /^--block-backend: sock= is missing; add it$/],
  [["--net-backend", "sock=/s,ip=1.2.3"], 240, /^--net-backend: ip=1\.2\.3 is not an IPv4 address/],
] as const)("%p fails with %d", (argv, code, message) => {
  const [actual, why] = failure([...argv]);

  expect(actual).toBe(code);
  expect(why).toMatch(message);
});

test.each(["image=/d,sock=/s,num_queues=1,readonly=false,direct=false", "path=/d,socket=/s"])(
  "--block-backend %s is understood",
  (value) => {
    expect(parseCommandLine(["--block-backend", value]).kind).toBe("command");
  },
);

test("--net-backend is understood in Cloud Hypervisor's spelling", () => {
  const value = "ip=192.168.100.1,mask=255.255.255.0,sock=/s,num_queues=2,queue_size=256";

  expect(parseCommandLine(["--net-backend", value]).kind).toBe("command");
});
