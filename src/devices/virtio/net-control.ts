/**
 * The control queue's commands (virtio 1.2 section 5.1.6.5): class, command, data; one byte of the device's says
 * whether it was done. A command of a feature that the driver did not accept is refused, and so is one of another
 * length.
 */
import { macBytes, NetAck, NetControl, NetFeature } from "./net-config.ts";
import { macNumber, type NetFilter, tableRoom } from "./net-filter.ts";
import type { Virtqueue } from "./queue.ts";

/** Class and command. */
const commandBytes = 2;
const countBytes = 4;
/** Most commands of a turn: a driver waits for each. */
const turnCommands = 256;

/** What commands do. Those that can fail say whether they did. */
export interface ControlTarget {
  readonly filter: NetFilter;
  setMac(mac: Uint8Array): void;
  /** Pairs of queues that frames move on: 1 or more. */
  setPairs(count: number): boolean;
  /** Feature bits of what the driver takes, of those that it accepted. */
  setOffloads(bits: number): boolean;
}

export class NetControlQueue {
  constructor(
    readonly queue: Virtqueue,
    /** The low 32 feature bits that the driver accepted. */
    readonly features: number,
    readonly target: ControlTarget,
  ) {}

  /** Serves commands; false when there are more, and it is another's turn. Throws GuestFault. */
  work(): boolean {
    const { queue } = this;
    try {
      for (let i = 0; i < turnCommands; i++) {
        const head = queue.next();
        if (head < 0) {
          if (queue.armKick()) return true;
          continue;
        }
        const ack = this.execute() ? NetAck.OK : NetAck.ERR;
        const room = queue.chain.writableBytes;
        if (room > 0) queue.windows.setUint8(queue.chain.writableAt(0), ack);
        queue.complete(head, room > 0 ? 1 : 0);
      }
      return false;
    } finally {
      queue.flush();
    }
  }

  /** Does the command in the queue's chain; whether it was done. */
  private execute(): boolean {
    if (this.length < commandBytes) return false;
    const kind = this.byte(0);
    const command = this.byte(1);
    switch (kind) {
      case NetControl.RX:
        return this.setMode(command);
      case NetControl.MAC:
        if (command === NetControl.MAC_TABLE_SET) return this.setTables();
        return command === NetControl.MAC_ADDR_SET && this.setMac();
      case NetControl.MQ:
        return command === NetControl.MQ_VQ_PAIRS_SET && this.setPairs();
      case NetControl.GUEST_OFFLOADS:
        return command === NetControl.GUEST_OFFLOADS_SET && this.setOffloads();
      default:
        return false;
    }
  }

  private setMode(command: number): boolean {
    const basic = command <= NetControl.RX_ALLMULTI;
    if (!this.has(basic ? NetFeature.CTRL_RX : NetFeature.CTRL_RX_EXTRA)) return false;
    if (this.length !== commandBytes + 1) return false;
    return this.target.filter.setMode(command, this.byte(commandBytes) !== 0);
  }

  /** Two tables: a count and so many addresses, unicast, then multicast. */
  private setTables(): boolean {
    const { filter } = this.target;
    if (!this.has(NetFeature.CTRL_RX) || this.length < commandBytes + countBytes) return false;
    const unicasts = this.queue.chain.readUint32(commandBytes);
    const unicastAt = commandBytes + countBytes;
    const multicastAt = unicastAt + unicasts * macBytes + countBytes;
    if (this.length < multicastAt) return false;
    const multicasts = this.queue.chain.readUint32(multicastAt - countBytes);
    if (this.length !== multicastAt + multicasts * macBytes) return false;
    filter.setTables(unicasts, multicasts);
    for (let i = 0; i < Math.min(unicasts, tableRoom); i++) {
      filter.setUnicast(i, this.mac(unicastAt + i * macBytes));
    }
    for (let i = 0; i < Math.min(multicasts, tableRoom); i++) {
      filter.setMulticast(i, this.mac(multicastAt + i * macBytes));
    }
    return true;
  }

  private setMac(): boolean {
    if (!this.has(NetFeature.CTRL_MAC_ADDR) || this.length !== commandBytes + macBytes)
      return false;
    const mac = Uint8Array.from({ length: macBytes }, (_, i) => this.byte(commandBytes + i));
    this.target.setMac(mac);
    return true;
  }

  private setPairs(): boolean {
    if (!this.has(NetFeature.MQ) || this.length !== commandBytes + 2) return false;
    const count = this.byte(commandBytes) + this.byte(commandBytes + 1) * 256;
    return count >= 1 && this.target.setPairs(count);
  }

  private setOffloads(): boolean {
    if (!this.has(NetFeature.CTRL_GUEST_OFFLOADS) || this.length !== commandBytes + 8) return false;
    const bits = this.queue.chain.readUint32(commandBytes);
    if (this.queue.chain.readUint32(commandBytes + 4) !== 0) return false;
    return this.target.setOffloads(bits);
  }

  private has(feature: number): boolean {
    return (this.features & (1 << feature)) !== 0;
  }

  private get length(): number {
    return this.queue.chain.readableBytes;
  }

  private byte(offset: number): number {
    return this.queue.windows.getUint8(this.queue.chain.readableAt(offset));
  }

  private mac(offset: number): number {
    const { chain } = this.queue;
    const high = this.byte(offset + 4) + this.byte(offset + 5) * 256;
    return macNumber(chain.readUint32(offset), high);
  }
}
