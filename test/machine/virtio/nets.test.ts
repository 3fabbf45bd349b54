import { afterAll, describe, expect, test } from "bun:test";
import { closeSync, openSync, readdirSync, readFileSync } from "node:fs";
import { devNull } from "node:os";
import { parse } from "valibot";
import { parseOptions } from "../../../src/cli/options.ts";
import type { NetSpec } from "../../../src/devices/virtio/net-config.ts";
import { ConfigError } from "../../../src/exit-codes.ts";
import { Block } from "../../../src/ffi/block.ts";
import { statusFlags } from "../../../src/ffi/file.ts";
import { libc } from "../../../src/ffi/libc.ts";
import { attachTap, openTun } from "../../../src/ffi/tap.ts";
import { NetConfig } from "../../../src/machine/config/devices.ts";
import { type BootConfig, complete, VmConfigSchema } from "../../../src/machine/config/vm.ts";
import { Owned } from "../../../src/machine/owned.ts";
import { openDevices } from "../../../src/machine/virtio/devices.ts";
import { queuesOf, type VirtioDevice, wire } from "../../../src/machine/virtio/spec.ts";
import { NetworkNamespace } from "../../network/namespace.ts";
import { openFiles } from "../proc.ts";

const namespace = new NetworkNamespace();
afterAll(() => namespace[Symbol.dispose]());

interface Nets {
  readonly owned: Owned;
  readonly nets: readonly VirtioDevice[];
  readonly specs: readonly NetSpec[];
}

/** What the machine opens for a configuration with these interfaces; call it in the namespace. */
function opened(...texts: string[]): Nets {
  const owned = new Owned();
  const net = texts.map((text) => parseOptions(NetConfig, text, "--net"));
  const config = { ...complete(parse(VmConfigSchema, {})), net };
  try {
    const devices = openDevices(config as BootConfig, owned);
    const nets = devices.filter(({ backend }) => backend.kind === "net");
    return { owned, nets, specs: nets.map(({ backend }) => backend.spec as NetSpec) };
  } catch (error) {
    owned.close();
    throw error;
  }
}

const ip = (...words: string[]) => namespace.command("ip", ...words);
const link = (name: string) => JSON.parse(ip("-j", "address", "show", "dev", name))[0];
/** Names of the interfaces there are. */
const links = (): string[] =>
  namespace.run(() =>
    [...readFileSync("/proc/thread-self/net/dev", "utf8").matchAll(/^ *(\S+):/gm)].map(
      ([, name]) => name!,
    ),
  );
/** An option without any wish. */
const plain = "vhost=off";
/** Descriptors of taps that are open. */
const descriptors = () => openFiles().filter((file) => file === "/dev/net/tun").length;

/** The message of the ConfigError; nothing may be left open, nor any interface. */
function refusal(...texts: string[]): string {
  const beforeLinks = links();
  const before = descriptors();
  try {
    namespace.run(() => opened(...texts)).owned.close();
  } catch (error) {
    expect(descriptors()).toBe(before);
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).option).toBe("--net");
    expect(links()).toEqual(beforeLinks);
    expect((error as Error).message).not.toContain("\n");
    return (error as Error).message;
  }
  throw new Error("it was opened");
}

describe("a tap that is made", () => {
  test("is called vmtapN, and has the address, mask, MAC and MTU", () => {
    const options = "ip=10.1.2.3,mask=255.255.0.0,host_mac=02:00:00:00:00:aB,mtu=1400";

    const { owned, specs } = namespace.run(() => opened(options, plain));

    expect(links()).toContain("vmtap1");
    const { flags, address, mtu, addr_info: addresses } = link("vmtap0");
    expect(flags).toContain("UP");
    expect(address).toBe("02:00:00:00:00:ab");
    expect(mtu).toBe(1400);
    expect(specs.map((spec) => spec.mtu)).toEqual([1400, 0]);
    expect(addresses.map((one: object) => one)).toMatchObject([
      { family: "inet", local: "10.1.2.3", prefixlen: 16 },
    ]);
    expect(link("vmtap1").addr_info).toMatchObject([{ local: "192.168.249.1", prefixlen: 24 }]);
    owned.close();
    expect(links()).not.toContain("vmtap0");
  });

  test("is refused where the address is none", () => {
    expect(refusal("mask=255.0.255.0")).toMatch(
      /^--net: ip=192.168.249.1,mask=255.0.255.0: .*; give others$/,
    );
  });
});

describe("a tap that is named", () => {
  test("is made if there is none, without an address", () => {
    const { owned } = namespace.run(() => opened("tap=mine,mtu=9000"));

    expect(link("mine")).toMatchObject({ mtu: 9000, addr_info: [] });
    expect(link("mine").flags).toContain("UP");
    owned.close();
    expect(links()).not.toContain("mine");
  });

  test("that was prepared stays as it is but for what is asked", () => {
    ip("tuntap", "add", "dev", "ready", "mode", "tap");
    ip("link", "set", "ready", "mtu", "1450");
    const before = link("ready").address;

    const { owned } = namespace.run(() => opened("tap=ready"));

    expect(link("ready")).toMatchObject({ mtu: 1450, address: before, addr_info: [] });
    expect(refusal("tap=ready")).toBe(
      "--net tap=ready: in use by another process; end it, or name another tap",
    );
    owned.close();
    expect(links()).toContain("ready");
  });

  test("may have been made with several queues, for one pair too", () => {
    ip("tuntap", "add", "dev", "wide", "mode", "tap", "multi_queue");

    const one = namespace.run(() => opened("tap=wide"));
    expect(one.specs[0]!.taps.length).toBe(1);
    one.owned.close();
    const { owned, specs, nets } = namespace.run(() => opened("tap=wide,num_queues=6"));

    expect(specs[0]!.taps.length).toBe(3);
    expect(nets[0]!.identity.queueSizes).toEqual(new Array(7).fill(256)); // and the control queue
    for (const fd of specs[0]!.taps) expectUsable(fd);
    owned.close();
  });

  test("is refused when it cannot serve", () => {
    ip("tuntap", "add", "dev", "narrow", "mode", "tap");

    expect(refusal("tap=lo")).toBe("--net tap=lo: not a tap; name one");
    expect(refusal("tap=narrow,num_queues=4")).toBe(
      "--net tap=narrow: not a tap with several queues, which num_queues=4 needs; make it so with " +
        '"ip tuntap add dev narrow mode tap user $USER multi_queue"',
    );
    for (const name of ["a-name-of-16-bytes", "tap%d", "a/b", "a b"]) {
      expect(refusal(`tap=${name}`)).toContain("no interface can have this name");
    }
    expect(refusal("tap=fresh,mtu=65535")).toMatch(/mtu=65535: .*"ip link set fresh mtu 65535"$/);
  });
});

/** Asks the tap with the kernel's own numbers (linux/if_tun.h, fcntl.h). */
function expectUsable(fd: number): void {
  const [TUNGETVNETHDRSZ, TUNGETVNETLE, F_GETFD, O_NONBLOCK] = [0x800454d7, 0x800454dd, 1, 0o4000];
  const word = new Block(4);
  expect(libc.ioctl(fd, TUNGETVNETHDRSZ, word.address)).toBe(0);
  expect(word.view.getInt32(0, true)).toBe(12); // struct virtio_net_hdr_v1
  expect(libc.ioctl(fd, TUNGETVNETLE, word.address)).toBe(0);
  expect(word.view.getInt32(0, true)).toBe(1);
  expect(libc.fcntl(fd, F_GETFD, 0)).toBe(1); // FD_CLOEXEC
  expect(statusFlags(fd) & O_NONBLOCK).toBe(O_NONBLOCK);
}

describe("descriptors that are inherited", () => {
  /** A descriptor of a tap; call it in the namespace. */
  function tap(name: string, several = false): number {
    const fd = openTun();
    attachTap(fd, name, several);
    return fd;
  }

  test("are used as they are, one for each pair; the tap is left alone", () => {
    const fds = namespace.run(() => [tap("theirs", true), tap("theirs", true)]);
    for (const fd of fds) {
      libc.fcntl(fd, 2, 0); // F_SETFD: a child would have it
      libc.fcntl(fd, 4, 0); // F_SETFL: it waits
    }
    const before = link("theirs");

    const { owned, specs, nets } = namespace.run(() =>
      opened(`fd=[${fds}],num_queues=4,mtu=1300,id=uplink`),
    );

    expect(specs[0]!.taps.length).toBe(2);
    expect(specs[0]!.mtu).toBe(1300);
    for (const fd of specs[0]!.taps) expectUsable(fd);
    for (const fd of fds) expect(libc.fcntl(fd, 1, 0)).toBe(1); // no child of ours has it
    expect(nets[0]!.id).toBe("uplink");
    expect(link("theirs")).toEqual(before);
    owned.close();
    expect(links()).toContain("theirs"); // ours were copies: the next boot finds them again
    for (const fd of fds) closeSync(fd);
  });

  test("are refused when they are not", () => {
    const [one, two, other] = namespace.run(() => [tap("a"), tap("b", true), tap("c", true)]);
    const file = openSync(devNull, "r");

    expect(refusal(`fd=${one},num_queues=4`)).toBe(
      `--net fd=[${one}]: 1 descriptors, but num_queues=4 needs 2, one for each pair of queues; ` +
        "make them equal",
    );
    expect(refusal(`fd=[${two},${other}],num_queues=4`)).toContain("of several taps (b, c)");
    expect(refusal(`fd=${file}`)).toContain(`descriptor ${file} is not a tap's`);
    expect(refusal("fd=9999")).toContain("descriptor 9999 is not a tap's");
    expect(refusal(`fd=${one},tap=a`)).toContain("fd= and tap= exclude each other");
    expect(refusal(`fd=${one},host_mac=02:00:00:00:00:01`)).toContain("host_mac= is for a tap");
    for (const fd of [one, two, other, file]) closeSync(fd!);
  });

  test("are refused without a virtio header", () => {
    const fd = namespace.run(() => {
      // TUNSETIFF with IFF_TAP alone: `ip tuntap` opens them so
      const bare = openTun();
      attachTap(bare, "bare", false, 0);
      return bare;
    });

    expect(refusal(`fd=${fd}`)).toContain("was opened without IFF_VNET_HDR and IFF_NO_PI");
    closeSync(fd);
  });
});

describe("a MAC", () => {
  const macs = (...texts: string[]) => {
    const { owned, specs, nets } = namespace.run(() => opened(...texts));
    owned.close();
    for (const [i, { config }] of nets.entries()) {
      expect([...config.subarray(0, 6)]).toEqual([...specs[i]!.mac]);
    }
    return specs.map(({ mac }) => mac);
  };

  test("is the one that was given", () => {
    expect(macs("mac=52:54:00:AB:cd:01")).toEqual([[0x52, 0x54, 0, 0xab, 0xcd, 1]]);
  });

  test("is random, local and unicast if none was", () => {
    const [one, two] = macs(plain, plain);

    expect(one).not.toEqual(two);
    for (const mac of [one!, two!]) expect(mac[0]! & 3).toBe(2);
  });

  test("of a group, and of nobody, is refused", () => {
    expect(refusal("mac=01:00:5e:00:00:01")).toBe(
      "--net: mac=01:00:5e:00:00:01 is a multicast address; give one whose first byte is even",
    );
    expect(refusal("tap=x,host_mac=03:00:00:00:00:01")).toContain("--net tap=x: host_mac=03:");
    expect(refusal("mac=00:00:00:00:00:00")).toContain("is no address");
  });
});

describe("queues", () => {
  test.each([
    ["num_queues=3", "num_queues=3 is not even: receive and transmit queues come in pairs"],
    ["num_queues=1", "num_queues=1 is not even"],
    ["num_queues=18", "num_queues=18 is above 16"],
    ["queue_size=100", "queue_size=100 is not a power of two up to 32768"],
  ])("%s is refused", (text, why) => {
    expect(refusal(text)).toContain(why);
  });
});

describe("I/O threads of its own", () => {
  /** The queues of each worker, of those that the interface has. */
  const dealt = (text: string) => {
    const { owned, nets } = namespace.run(() => opened(text));
    const device = wire(nets, owned)[0]!;
    owned.close();
    const queues = device.workers.map((_, share) => queuesOf(device, share));
    return { workers: device.workers, queues };
  };

  // receive and transmit queues by turns, the control queue behind the last (virtio 1.2 section 5.1.2)
  test("get the queues by pairs, in turn; the first has the control queue", () => {
    expect(dealt("num_queues=4")).toEqual({ workers: [0], queues: [[0, 1, 2, 3, 4]] });
    expect(dealt("num_queues=4,io_threads=1")).toEqual({ workers: [1], queues: [[0, 1, 2, 3, 4]] });
    expect(dealt("num_queues=4,io_threads=2").queues).toEqual([
      [0, 1, 4],
      [2, 3],
    ]);
    expect(dealt("num_queues=10,io_threads=3")).toEqual({
      workers: [1, 2, 3],
      queues: [
        [0, 1, 6, 7, 10],
        [2, 3, 8, 9],
        [4, 5],
      ],
    });
  });

  test.each([
    ["io_threads=2", "io_threads=2 is above the 1 pair of num_queues=2; raise num_queues"],
    [
      "num_queues=8,io_threads=5",
      "io_threads=5 is above the 4 pairs of num_queues=8; raise num_queues",
    ],
    [
      "num_queues=4,io_threads=2,ops_size=1,ops_refill_time=1",
      "io_threads=2 and bw_ and ops_ limits exclude each other; lower it to 1",
    ],
    [
      "num_queues=4,io_threads=1,vhost=on",
      "vhost=on and io_threads=1 exclude each other; drop one",
    ],
  ])("%s is refused", (text, why) => {
    expect(refusal(text)).toBe(`--net: ${why}`);
  });

  test("a single one goes with limits", () => {
    const limits = "num_queues=4,io_threads=1,ops_size=1,ops_refill_time=1";
    expect(dealt(limits).workers).toEqual([1]);
  });
});

test("limits hold for both directions", () => {
  const limits =
    "bw_size=1000,bw_refill_time=10,ops_size=5,ops_refill_time=20,ops_one_time_burst=3";
  const { owned, specs } = namespace.run(() => opened(limits, "bw_size=0,bw_refill_time=1"));
  owned.close();

  const expected = {
    bytes: { size: 1000, oneTimeBurst: 0, refillMs: 10 },
    ops: { size: 5, oneTimeBurst: 3, refillMs: 20 },
  };
  expect(specs[0]).toMatchObject({ receiveLimit: expected, transmitLimit: expected });
  expect(specs[1]!.receiveLimit).toBeUndefined();
  expect(refusal(`vhost=on,${limits}`)).toContain("exclude each other");
});

test.skipIf(readdirSync("/dev").includes("vhost-net"))("no vhost-net says how to get it", () => {
  expect(refusal("vhost=on")).toBe(
    "--net: vhost=on: no /dev/vhost-net (no such file or directory); " +
      'load it with "modprobe vhost_net", or leave vhost=on out',
  );
});

test("interfaces are named _net0, _net1, …; a name is given once", () => {
  const { owned, nets } = namespace.run(() => opened(plain, "id=lan", plain));
  expect(nets.map(({ id }) => id)).toEqual(["_net0", "lan", "_net2"]);
  expect(nets[0]!.identity.type).toBe(1); // virtio 1.2 section 5: network card
  owned.close();
  expect(refusal("id=x", "id=x")).toContain("id=x names --net id=x too");
});
