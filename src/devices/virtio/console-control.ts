/**
 * The control queues of a console device with several ports (virtio 1.2 section 5.3.6.2): which ports there are, their
 * names, and who has them open. What is to be said of a port is a set of bits, said when the driver has buffers for it:
 * a driver that asks a thousand times is answered once.
 */
import { type ConsolePortSpec, ControlEvent, VirtioConsoleControl } from "./console-config.ts";
import { GuestFault } from "./guest-fault.ts";
import type { Virtqueue } from "./queue.ts";

const { size: messageBytes, offsets } = VirtioConsoleControl;
const { DEVICE_READY, PORT_ADD, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME } =
  ControlEvent;
/** What can be said of a port, in this order; each is a bit of what is pending, by its place. */
const messages = [PORT_ADD, CONSOLE_PORT, PORT_NAME, PORT_OPEN, RESIZE] as const;
type Message = (typeof messages)[number];
const bitOf = (message: Message): number => 1 << messages.indexOf(message);
/** Most messages of the driver in a turn. */
const turnMessages = 256;
const receiveQueue = 0;
const transmitQueue = 1;

/** What the control queues need to know of the ports, and tell of them. */
export interface ConsolePorts {
  /** Somebody is at the far end. */
  isPresent(port: number): boolean;
  /** Columns and rows of a port's terminal, in one word (rows in the upper half); -1 when it has none. */
  sizeOf(port: number): number;
  /** The guest has opened a port, or closed it. */
  guestOpened(port: number, open: boolean): void;
}

export class ConsoleControl {
  private readonly queues: (Virtqueue | undefined)[] = [undefined, undefined];
  /** By port: bits of what is still to be said, and 1 when the driver has it ready. */
  private readonly pending: Uint8Array;
  private readonly ready: Uint8Array;
  private readonly names: readonly Uint8Array[];

  constructor(
    readonly specs: readonly ConsolePortSpec[],
    readonly ports: ConsolePorts,
  ) {
    this.pending = new Uint8Array(specs.length);
    this.ready = new Uint8Array(specs.length);
    this.names = specs.map(({ name }) => new TextEncoder().encode(name));
  }

  start(receive: Virtqueue | undefined, transmit: Virtqueue | undefined): void {
    this.queues[receiveQueue] = receive;
    this.queues[transmitQueue] = transmit;
  }

  stop(): void {
    this.queues.fill(undefined);
  }

  /** There is another driver, or the same anew. */
  forget(): void {
    this.pending.fill(0);
    this.ready.fill(0);
  }

  /** Hears the driver, and says what is to be said. True when there is more to hear. Throws GuestFault. */
  work(): boolean {
    const more = this.hear();
    this.say();
    return more;
  }

  /** Somebody has come to a port's far end, or gone. Throws GuestFault. */
  presenceChanged(port: number): void {
    this.announce(port, PORT_OPEN);
  }

  /** A port's terminal has another size. Throws GuestFault. */
  resized(port: number): void {
    if (this.specs[port]?.console) this.announce(port, RESIZE);
  }

  /** A port that the driver does not have yet is told of when it has. */
  private announce(port: number, message: Message): void {
    if (this.ready[port] !== 1) return;
    this.pending[port]! |= bitOf(message);
    this.say();
  }

  private hear(): boolean {
    const queue = this.queues[transmitQueue];
    if (!queue) return false;
    queue.pauseKicks();
    try {
      for (let count = 0; count < turnMessages; count++) {
        const head = queue.next();
        if (head < 0) {
          if (queue.armKick()) return false;
          continue;
        }
        const { chain } = queue;
        if (chain.readableBytes >= messageBytes) {
          const id = chain.readUint32(offsets.id);
          const both = chain.readUint32(offsets.event);
          this.heard(id, both & 0xffff, both >>> 16);
        }
        queue.complete(head, 0);
      }
      return true;
    } finally {
      queue.flush();
    }
  }

  /** A port that is not there, and what only a device may say, is nobody's. */
  private heard(id: number, event: number, value: number): void {
    const { pending, ready, specs } = this;
    if (event === DEVICE_READY) {
      if (value === 1) pending.fill(bitOf(PORT_ADD));
      ready.fill(0);
    } else if (id >= specs.length) {
      return;
    } else if (event === PORT_READY) {
      ready[id] = value === 1 ? 1 : 0;
      pending[id] = value === 1 ? this.introduction(id) : 0;
    } else if (event === PORT_OPEN) {
      this.ports.guestOpened(id, value === 1);
    }
  }

  private introduction(port: number): number {
    let bits = bitOf(PORT_NAME);
    if (this.ports.isPresent(port)) bits |= bitOf(PORT_OPEN);
    if (!this.specs[port]!.console) return bits;
    if (this.ports.sizeOf(port) >= 0) bits |= bitOf(RESIZE);
    return bits | bitOf(CONSOLE_PORT);
  }

  /** Says what is pending, as far as the driver has buffers. */
  private say(): void {
    const queue = this.queues[receiveQueue];
    if (!queue) return;
    queue.pauseKicks();
    try {
      for (let port = 0; port < this.pending.length; port++) {
        for (let place = 0; place < messages.length; ) {
          if ((this.pending[port]! & (1 << place)) === 0) {
            place++;
            continue;
          }
          const head = queue.next();
          if (head >= 0) {
            this.pending[port]! &= ~(1 << place);
            queue.complete(head, this.write(queue, port, messages[place]!));
          } else if (queue.armKick()) {
            return;
          }
        }
      }
    } finally {
      queue.flush();
    }
  }

  /** Writes a message into the chain that `next` gave; how many bytes it has. */
  private write(queue: Virtqueue, port: number, message: Message): number {
    const size = message === RESIZE ? this.ports.sizeOf(port) : 0;
    const extra = message === PORT_NAME ? this.names[port]!.length : message === RESIZE ? 4 : 0;
    const length = messageBytes + extra;
    const { chain, windows } = queue;
    if (chain.writableBytes < length) {
      throw new GuestFault(`a control buffer of ${chain.writableBytes} bytes for ${length}`);
    }
    const value = message === PORT_OPEN && !this.ports.isPresent(port) ? 0 : 1;
    for (let i = 0; i < length; i++) {
      let byte = 0;
      if (i === offsets.id) byte = port;
      else if (i === offsets.event) byte = message;
      else if (i === offsets.value) byte = value;
      else if (i >= messageBytes && message === RESIZE) byte = size >>> (8 * (i - messageBytes));
      else if (i >= messageBytes) byte = this.names[port]![i - messageBytes]!;
      windows.setUint8(chain.writableAt(i), byte & 0xff);
    }
    return length;
  }
}
