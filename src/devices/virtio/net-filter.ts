/**
 * Which frames a driver wants (virtio 1.2 sections 5.1.6.5.1 and 5.1.6.5.2): all of them after a reset, until it says
 * otherwise. A MAC is a number here: its bytes 0 to 3, little-endian, and bytes 4 and 5 above them.
 */
import { NetControl } from "./net-config.ts";

const highUnit = 0x1_0000_0000;
const broadcast = 0xffff * highUnit + 0xffff_ffff;
/** Most addresses of a table; one that is longer lets all of its kind through. */
export const tableRoom = 64;
const modes = 6;
/** Places in `counts`. */
const [unicasts, multicasts] = [0, 1];
/** Where each of its parts lies in a filter's memory, in bytes. */
const unicastAt = Float64Array.BYTES_PER_ELEMENT;
const multicastAt = unicastAt + tableRoom * Float64Array.BYTES_PER_ELEMENT;
const countsAt = multicastAt + tableRoom * Float64Array.BYTES_PER_ELEMENT;
const modesAt = countsAt + 2 * Uint32Array.BYTES_PER_ELEMENT;
/** A whole number of doubles. */
export const filterBytes = modesAt + 8;

export const macNumber = (low: number, high: number): number => high * highUnit + low;

export class NetFilter {
  /** On or off, by VIRTIO_NET_CTRL_RX_ command. */
  private readonly on: Uint8Array;
  /** The device's own MAC, then the tables. */
  private readonly own: Float64Array;
  private readonly unicast: Float64Array;
  private readonly multicast: Float64Array;
  private readonly counts: Uint32Array;

  /** A filter in memory that perhaps others see, too; it changes when nobody looks. */
  constructor(buffer: ArrayBufferLike) {
    this.own = new Float64Array(buffer, 0, 1);
    this.unicast = new Float64Array(buffer, unicastAt, tableRoom);
    this.multicast = new Float64Array(buffer, multicastAt, tableRoom);
    this.counts = new Uint32Array(buffer, countsAt, 2);
    this.on = new Uint8Array(buffer, modesAt, modes);
  }

  /** As after a reset. */
  reset(mac: number): void {
    this.on.fill(0);
    this.on[NetControl.RX_PROMISC] = 1;
    this.counts.fill(0);
    this.mac = mac;
  }

  set mac(value: number) {
    this.own[0] = value;
  }

  /** False for a command that there is not. */
  setMode(command: number, value: boolean): boolean {
    if (command >= modes) return false;
    this.on[command] = value ? 1 : 0;
    return true;
  }

  /** Tables of `count` addresses follow, which `add` fills as far as there is room. */
  setTables(unicastCount: number, multicastCount: number): void {
    this.counts[unicasts] = unicastCount;
    this.counts[multicasts] = multicastCount;
  }

  setUnicast(index: number, mac: number): void {
    this.unicast[index] = mac;
  }
  setMulticast(index: number, mac: number): void {
    this.multicast[index] = mac;
  }

  /** All frames are wanted: there is no need to look. */
  get open(): boolean {
    return this.on[NetControl.RX_PROMISC] === 1;
  }

  /** Whether a frame to this address is wanted. */
  wants(low: number, high: number): boolean {
    const { on, counts } = this;
    if (this.open) return true;
    const mac = macNumber(low, high);
    if ((low & 1) !== 0) {
      if (mac === broadcast) return on[NetControl.RX_NOBCAST] === 0;
      if (on[NetControl.RX_NOMULTI] === 1) return false;
      if (on[NetControl.RX_ALLMULTI] === 1) return true;
      return this.lists(this.multicast, counts[multicasts]!, mac);
    }
    if (on[NetControl.RX_NOUNI] === 1) return false;
    if (on[NetControl.RX_ALLUNI] === 1 || mac === this.own[0]) return true;
    return this.lists(this.unicast, counts[unicasts]!, mac);
  }

  private lists(table: Float64Array, count: number, mac: number): boolean {
    if (count > tableRoom) return true;
    for (let i = 0; i < count; i++) if (table[i] === mac) return true;
    return false;
  }
}
