/**
 * The taps behind a network interface: one that the user names, prepared or not, descriptors that were inherited, or
 * one that is made. A prepared tap is only asked what has to be known: a plain user may use it, and may not change it.
 */
import { headerBytes } from "../../devices/virtio/net-config.ts";
import { bringUp, isUp, macOf, mtuOf, setIpv4, setMac, setMtu } from "../../ffi/interface.ts";
import { SystemError } from "../../ffi/libc.ts";
import { attachTap, openTun, setVirtioHeader, takeTap, tapQueue } from "../../ffi/tap.ts";
import type { VmConfig } from "../config/vm.ts";
import type { Owned } from "../owned.ts";

export type NetConfig = NonNullable<VmConfig["net"]>[number];
type Fail = (why: string) => Error;

/** The first free of vmtap0, vmtap1, … */
const madeName = "vmtap%d";
const nameBytesMax = 15;

/** A descriptor for each pair of queues; they are `owned`. Throws what `fail` makes. */
export function openTaps(config: NetConfig, pairs: number, owned: Owned, fail: Fail): number[] {
  const { fds, tap } = config;
  if (fds !== undefined) return inherited(fds, config, pairs, owned, fail);
  if (tap === undefined) return made(config, pairs, owned, fail);
  return named(tap, config, pairs, owned, fail);
}

function inherited(
  fds: readonly number[],
  { tap, host_mac: hostMac }: NetConfig,
  pairs: number,
  owned: Owned,
  fail: Fail,
): number[] {
  if (tap !== undefined) throw fail(`fd= and tap= exclude each other; drop one`);
  if (hostMac !== undefined) {
    throw fail("host_mac= is for a tap that chv opens; set it where the descriptor comes from");
  }
  if (fds.length !== pairs) {
    const needed = `num_queues=${2 * pairs} needs ${pairs}, one for each pair of queues`;
    throw fail(`${fds.length} descriptors, but ${needed}; make them equal`);
  }
  const names = new Set<string>();
  const taps = fds.map((fd) => {
    const queue = tapQueue(fd);
    if (!queue?.ethernet) {
      throw fail(`descriptor ${fd} is not a tap's; pass one that was opened with IFF_TAP`);
    }
    if (!queue.virtioHeader) {
      throw fail(
        `descriptor ${fd}: the tap was opened without IFF_VNET_HDR and IFF_NO_PI; set both`,
      );
    }
    names.add(queue.name);
    const own = owned.fd(takeTap(fd));
    setVirtioHeader(own, headerBytes);
    return own;
  });
  if (names.size > 1) {
    throw fail(`the descriptors are of several taps (${[...names].join(", ")}); pass one tap's`);
  }
  return taps;
}

function made(config: NetConfig, pairs: number, owned: Owned, fail: Fail): number[] {
  const { fds, name } = attachAll(
    madeName,
    pairs,
    owned,
    (error) => {
      if (error.code !== "EPERM") return fail(`no tap can be made: ${error.reason}`);
      const how = `"ip tuntap add dev tap0 mode tap user $USER${pairs > 1 ? " multi_queue" : ""}"`;
      return fail(
        `making a tap needs CAP_NET_ADMIN; have one made with ${how}, and name it: tap=tap0`,
      );
    },
    fail,
  );
  const bytes = (text: string) => Uint8Array.from(text.split("."), Number);
  const { ip, mask } = config;
  attempt(
    () => setIpv4(name, bytes(ip), bytes(mask)),
    (error) => fail(`ip=${ip},mask=${mask}: ${error.reason}; give others`),
  );
  settle(name, config, fail);
  return fds;
}

function named(name: string, config: NetConfig, pairs: number, owned: Owned, fail: Fail): number[] {
  if (new TextEncoder().encode(name).length > nameBytesMax || /[%/\s:]/.test(name)) {
    throw fail(`no interface can have this name (at most ${nameBytesMax} bytes); choose another`);
  }
  const there = exists(name);
  const multi = pairs > 1 ? " multi_queue" : "";
  const make = `"ip tuntap add dev ${name} mode tap user $USER${multi}"`;
  const { fds } = attachAll(
    name,
    pairs,
    owned,
    (error) => {
      switch (error.code) {
        case "EPERM":
          return there
            ? fail(`it is another user's; have it made for you with ${make}`)
            : fail(`there is none, and making one needs CAP_NET_ADMIN; have it made with ${make}`);
        case "EBUSY":
          return fail("in use by another process; end it, or name another tap");
        case "EINVAL":
          return pairs > 1
            ? fail(
                `not a tap with several queues, which num_queues=${2 * pairs} needs; make it so with ${make}`,
              )
            : fail("not a tap; name one");
        case "E2BIG":
          return fail(`the tap has no ${pairs} queues left; lower num_queues`);
        default:
          return fail(error.reason);
      }
    },
    fail,
  );
  settle(name, config, fail);
  return fds;
}

/** Opens a queue of the tap for each pair; `refused` says why one cannot be had. */
function attachAll(
  wanted: string,
  pairs: number,
  owned: Owned,
  refused: (error: SystemError) => Error,
  fail: Fail,
): { fds: number[]; name: string } {
  let name = wanted;
  const fds: number[] = [];
  for (let i = 0; i < pairs; i++) {
    const fd = owned.fd(attempt(openTun, (error) => noTun(error, fail)));
    name = attempt(() => attachOne(fd, name, pairs > 1), refused);
    setVirtioHeader(fd, headerBytes);
    fds.push(fd);
  }
  return { fds, name };
}

/** A tap that was made with several queues serves one pair as well, if it is opened as such. */
function attachOne(fd: number, name: string, several: boolean): string {
  try {
    return attachTap(fd, name, several);
  } catch (error) {
    const other = !several && error instanceof SystemError && error.code === "EINVAL";
    if (!other) throw error;
    return attachTap(fd, name, true);
  }
}

function noTun({ code, reason }: SystemError, fail: Fail): Error {
  const missing = code === "ENOENT" || code === "ENODEV" || code === "ENXIO";
  const fix = missing ? `load it with "modprobe tun"` : "let chv read and write it";
  return fail(`/dev/net/tun: ${reason}; ${fix}`);
}

/** What the configuration asks of the interface itself; what is so already needs no privilege. */
function settle(name: string, { host_mac: mac, mtu }: NetConfig, fail: Fail): void {
  const set = (what: string, command: string, change: () => void) =>
    attempt(change, (error) =>
      fail(`${what}: ${error.reason}; have it set with "ip link set ${name} ${command}"`),
    );
  if (mac !== undefined && Buffer.from(macOf(name)).toString("hex") !== hex(mac)) {
    const bytes = Uint8Array.from(Buffer.from(hex(mac), "hex"));
    set(`host_mac=${mac}`, `address ${mac}`, () => setMac(name, bytes));
  }
  if (mtu !== undefined && mtuOf(name) !== mtu) {
    set(`mtu=${mtu}`, `mtu ${mtu}`, () => setMtu(name, mtu));
  }
  if (!isUp(name)) set(`${name} is down`, "up", () => bringUp(name));
}

const hex = (mac: string) => mac.replaceAll(":", "").toLowerCase();

function exists(name: string): boolean {
  try {
    mtuOf(name);
    return true;
  } catch (error) {
    if (error instanceof SystemError) return false;
    throw error;
  }
}

function attempt<T>(run: () => T, explain: (error: SystemError) => Error): T {
  try {
    return run();
  } catch (error) {
    throw error instanceof SystemError ? explain(error) : error;
  }
}
