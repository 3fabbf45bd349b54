/** A network device of a test: the backend under test on a real tap, and a driver's half for each queue. */
import { expect } from "bun:test";
import type { BackendHost } from "../../../src/devices/virtio/backend.ts";
import { GuestWindows, type RamRange } from "../../../src/devices/virtio/guest-windows.ts";
import { NetBackend, type NetCalls } from "../../../src/devices/virtio/net.ts";
import {
  NetCounters,
  type NetSpec,
  netConfig,
  netFeatures,
} from "../../../src/devices/virtio/net-config.ts";
import { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { close } from "../../../src/ffi/file.ts";
import { bringUp } from "../../../src/ffi/interface.ts";
import { ioctl } from "../../../src/ffi/ioctl.ts";
import {
  attachTap,
  openTun,
  readFrame,
  setVirtioHeader,
  tapCalls,
  writeFrame,
} from "../../../src/ffi/tap.ts";
import { NetworkNamespace, PacketSocket } from "../../network/namespace.ts";
import { type Buffer as Buf, Driver } from "./driver.ts";
import { FakeRam } from "./fake-ram.ts";
import { TestWorker } from "./worker.ts";

/** virtio_net_hdr_v1: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers (virtio 1.2, 5.1.6). */
export const headerBytes = 12;
export const guestMac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const ringsAt = 0x1000;
const ringBytes = 0x1_0000;
const buffersAt = 0x20_0000;
const ramBytes = 0x40_0000;

/** Taps in a namespace, for the rigs of a test file one after another: to make and end one takes the kernel 40 ms. */
export class TapHome {
  readonly namespace = new NetworkNamespace();
  readonly ram = new FakeRam([{ start: 0, length: ramBytes }]);
  readonly #taps = new Map<number, { name: string; fds: number[]; socket: PacketSocket }>();

  /** A tap with so many queues, up, and the host's side of it. */
  tap(queues: number) {
    const there = this.#taps.get(queues);
    if (there) return there;
    const name = `tap${queues}`;
    const made = this.namespace.run(() => {
      const fds = Array.from({ length: queues }, () => {
        const fd = openTun();
        attachTap(fd, name, queues > 1);
        setVirtioHeader(fd, headerBytes);
        return fd;
      });
      bringUp(name);
      return { name, fds, socket: new PacketSocket(name) };
    });
    this.#taps.set(queues, made);
    return made;
  }

  close(): void {
    for (const { fds, socket } of this.#taps.values()) {
      socket.close();
      for (const fd of fds) close(fd);
    }
    this.namespace[Symbol.dispose]();
  }
}

export interface RigOptions extends Partial<Omit<NetSpec, "taps" | "vhosts">> {
  /** Where the tap is; one of its own if absent. */
  readonly home?: TapHome;
  readonly pairs?: number;
  /** Bits the driver accepts, of those offered; all if absent. */
  readonly features?: number;
  readonly eventIndex?: boolean;
  readonly calls?: Partial<NetCalls>;
  /** Memory beside the rig's RAM that buffers may lie in. */
  readonly persistent?: RamRange;
  /** Descriptors of vhost-net, an eventfd a queue for its kicks, and what interrupts for each queue. */
  readonly vhosts?: readonly number[];
  readonly kickFds?: readonly number[];
  readonly callFds?: readonly (number | undefined)[];
  /** The queues that the backend serves; all if absent. */
  readonly numbers?: readonly number[];
  /** The host looks for work itself. */
  readonly polls?: boolean;
  /** Do not start the device. */
  readonly idle?: boolean;
}

export interface Received {
  readonly header: DataView;
  readonly frame: Uint8Array;
  /** Bytes that the device wrote into each buffer of the frame. */
  readonly lengths: readonly number[];
}

export class NetRig implements BackendHost {
  readonly polls: boolean;
  readonly home: TapHome;
  readonly namespace: NetworkNamespace;
  readonly worker = new TestWorker();
  readonly ram: FakeRam;
  readonly windows: GuestWindows;
  readonly spec: NetSpec;
  readonly backend: NetBackend;
  readonly config: Uint8Array;
  readonly counters = new Float64Array(NetCounters.length);
  readonly host: PacketSocket;
  readonly tap: string;
  readonly drivers: Driver[] = [];
  readonly queues: Virtqueue[] = [];
  /** Calls of each queue. */
  readonly calls: number[] = [];
  /** What the tap was told, in order. */
  readonly told: string[] = [];
  readonly features: number;
  readonly #eventIndex: boolean;
  readonly #ownHome: boolean;
  readonly #callFds: readonly (number | undefined)[];
  #place = buffersAt;
  /** Addresses of the receive buffers, by queue and head. */
  readonly #posted = new Map<string, readonly Buf[]>();

  constructor(options: RigOptions = {}) {
    const { home, pairs = 1, features, eventIndex = false, calls = {}, ...others } = options;
    const {
      idle = false,
      polls = false,
      kickFds = [],
      callFds = [],
      persistent,
      numbers,
      ...rest
    } = others;
    this.polls = polls;
    this.home = home ?? new TapHome();
    this.ram = this.home.ram;
    this.windows = persistent ? new GuestWindows(this.ram.regions, [persistent]) : this.ram.windows;
    this.#callFds = callFds;
    this.#ownHome = home === undefined;
    this.namespace = this.home.namespace;
    const { name, fds: taps, socket } = this.home.tap(pairs);
    this.tap = name;
    this.host = socket;
    this.arrived(); // what was left
    this.spec = {
      ...{ taps, mac: guestMac, mtu: 0, queueSize: 64, tso: true, ufo: true, csum: true },
      ...{ vhosts: [], ...rest },
    };
    this.features = features ?? netFeatures(this.spec);
    this.#eventIndex = eventIndex;
    const initial = netConfig(this.spec);
    this.config = new Uint8Array(new SharedArrayBuffer(initial.length));
    this.config.set(initial);
    const recorded = {
      ...{ readFrame, writeFrame, vhost: ioctl },
      setOffload: (fd: number, flags: number) => {
        this.told.push(`offload ${flags}`);
        return tapCalls.setOffload(fd, flags);
      },
      setAttached: (fd: number, attached: boolean) => {
        this.told.push(`${attached ? "attach" : "detach"} ${taps.indexOf(fd)}`);
        return tapCalls.setAttached(fd, attached);
      },
      ...calls,
    };
    const { spec, config, counters } = this;
    this.backend = new NetBackend(spec, this, config, counters, kickFds, recorded, numbers);
    if (!idle) this.start();
  }

  /** The driver takes the device into use, with fresh rings but for `without`, and kicks every queue. */
  start(without: readonly number[] = []): void {
    this.drivers.length = 0;
    this.queues.length = 0;
    this.#posted.clear();
    const count = 2 * this.spec.taps.length + 1;
    for (let i = 0; i < count; i++) {
      const at = ringsAt + i * ringBytes;
      const driver = new Driver(this.ram, this.spec.queueSize, at);
      this.ram.bytes(at, driver.end - at).fill(0);
      const call = () => this.call(i);
      const options = { indirect: true, eventIndex: this.#eventIndex, call };
      this.drivers.push(driver);
      this.queues.push(new Virtqueue(this.windows, driver.layout, options));
      this.calls[i] = 0;
    }
    const enabled = this.queues.map((queue, i) => (without.includes(i) ? undefined : queue));
    this.backend.start(enabled, BigInt(this.features));
    for (let i = 0; i < count; i++) this.backend.kicked(i);
  }

  /** The machine pauses, and goes on: the rings are as they were, and the device goes on in them. */
  pause(meanwhile: () => void = () => {}): void {
    expect(this.backend.stop()).toBe(true);
    meanwhile();
    for (const [i, queue] of this.queues.entries()) {
      const { nextUsed } = queue;
      const options = { indirect: true, eventIndex: this.#eventIndex, nextAvail: nextUsed };
      const call = () => this.call(i);
      this.queues[i] = new Virtqueue(this.windows, queue.layout, { ...options, call });
    }
    this.backend.start(this.queues, BigInt(this.features), true);
    for (const i of this.queues.keys()) this.backend.kicked(i);
  }

  get controlQueue(): number {
    const multiQueue = (this.features & (1 << 22)) !== 0;
    return multiQueue ? 2 * this.spec.taps.length : 2;
  }

  /** A place for `length` bytes in guest memory; places come round again. */
  room(length: number): number {
    if (this.#place + length > ramBytes) this.#place = buffersAt;
    const place = this.#place;
    this.#place += length;
    return place;
  }

  /** Offers receive buffers, each a chain of segments of so many bytes, and kicks. */
  post(chains: readonly (readonly number[])[], pair = 0, kick = true): void {
    for (const lengths of chains) {
      const buffers = lengths.map((length) => {
        const address = this.room(length);
        this.ram.bytes(address, length).fill(0xee);
        return { address, length, write: true };
      });
      const head = this.drivers[2 * pair]!.offer(buffers);
      this.#posted.set(`${pair}/${head}`, buffers);
    }
    if (kick) this.backend.kicked(2 * pair);
  }

  /** Frames that the device has given to the driver. */
  received(pair = 0): Received[] {
    const frames: Received[] = [];
    let pieces: Uint8Array[] = [];
    let lengths: number[] = [];
    let left = 0;
    for (const { head, written } of this.drivers[2 * pair]!.collect()) {
      const buffers = this.#posted.get(`${pair}/${head}`)!;
      const all = Buffer.concat(
        buffers.map(({ address, length }) => this.ram.bytes(address, length)),
      );
      if (left === 0) left = all.readUInt16LE(10);
      pieces.push(all.subarray(0, written));
      lengths.push(written);
      if (--left > 0) continue;
      const data = Uint8Array.from(Buffer.concat(pieces));
      const header = new DataView(data.buffer, 0, headerBytes);
      frames.push({ header, frame: data.subarray(headerBytes), lengths });
      [pieces, lengths] = [[], []];
    }
    if (left > 0) throw new Error("test: a frame without its end");
    return frames;
  }

  /** Offers a frame to send; its header is zero if not given. `cut`: lengths of its segments, the last takes the rest. */
  offer(
    frame: Uint8Array,
    header: Uint8Array = new Uint8Array(headerBytes),
    cut: readonly number[] = [],
    pair = 0,
  ): number {
    const data = Buffer.concat([header, frame]);
    const address = this.room(data.length);
    this.ram.bytes(address, data.length).set(data);
    const buffers: Buf[] = [];
    let at = 0;
    for (const length of cut) {
      buffers.push({ address: address + at, length });
      at += length;
    }
    buffers.push({ address: address + at, length: data.length - at });
    return this.drivers[2 * pair + 1]!.offer(buffers);
  }

  send(frame: Uint8Array, header?: Uint8Array, cut?: readonly number[], pair = 0): void {
    this.offer(frame, header, cut, pair);
    this.backend.kicked(2 * pair + 1);
  }

  /** What came out of the tap. */
  arrived(): Uint8Array[] {
    const frames: Uint8Array[] = [];
    for (let frame = this.host.receive(); frame; frame = this.host.receive()) frames.push(frame);
    return frames;
  }

  /** Sends a command on the control queue: its ack, or -1 if the device wrote none. */
  command(...bytes: number[]): number {
    return this.commandIn([bytes.length], ...bytes);
  }

  /** The same, in segments of so many bytes. */
  commandIn(cut: readonly number[], ...bytes: number[]): number {
    const driver = this.drivers[this.controlQueue]!;
    const address = this.room(bytes.length + 1);
    const ackAt = address + bytes.length;
    this.ram.bytes(address, bytes.length).set(bytes);
    this.ram.bytes(ackAt, 1)[0] = 0xee;
    let at = address;
    const buffers: Buf[] = cut.map((length) => ({ address: (at += length) - length, length }));
    driver.offer([...buffers, { address: ackAt, length: 1, write: true }]);
    this.backend.kicked(this.controlQueue);
    const [used] = driver.collect();
    const ack = this.ram.bytes(ackAt, 1)[0]!;
    return used?.written === 1 ? ack : -1;
  }

  /** Lets the worker do all that it can do now. */
  settle(): void {
    if (!this.polls) this.worker.settle();
    else while (this.worker.pump() >= 0 && (this.backend.poll() || !this.backend.sleep()));
  }

  watch(fd: number, events: number, ready: (events: number) => void): void {
    this.worker.watch(fd, events, ready);
  }
  unwatch(fd: number): void {
    this.worker.unwatch(fd);
  }
  callFd(index: number): number | undefined {
    return this.#callFds[index];
  }
  call(index: number): void {
    this.calls[index]!++;
  }
  configChanged(): void {
    this.worker.configChanged();
  }
  chores(): never {
    throw new Error("test: a network device has no chores");
  }
  warn(text: string): void {
    this.worker.warn(text);
  }

  [Symbol.dispose](): void {
    this.backend.stop();
    this.backend.close();
    this.worker.close();
    if (this.#ownHome) this.home.close();
    else for (const tap of this.spec.taps) tapCalls.setAttached(tap, true);
  }
}
