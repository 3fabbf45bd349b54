/**
 * The 64 Ki I/O ports. A look-up is one array read. The bus alone decides accesses that no device owns or that straddle
 * the end of one: reads give all ones, writes vanish, as on a real board.
 */
import type { AccessSize, BusDevice } from "./device.ts";
import { BusConflict, type DeviceLock, hex, Mapping } from "./mapping.ts";

const portCount = 0x1_0000;
const allOnes = [0, 0xff, 0xffff, 0, 0xffff_ffff];

export class PortBus {
  /** For each port, the number of its mapping; 0 is nobody. */
  readonly #owners = new Uint8Array(portCount);
  readonly #mappings: Mapping[] = [new Mapping("nobody", 0, 0, { read: () => 0, write() {} })];

  /** Gives ports [port, port + length) to a device. Throws BusConflict when one of them is taken. */
  map(name: string, port: number, length: number, device: BusDevice, lock?: DeviceLock): void {
    if (port < 0 || length < 1 || port + length > portCount) {
      throw new RangeError(
        `ports: [${hex(port)}, ${hex(port + length)}) is outside the port space`,
      );
    }
    if (this.#mappings.length > 0xff) throw new RangeError("ports: more than 255 devices");
    const mapping = new Mapping(name, port, length, device, lock);
    for (let at = port; at < port + length; at++) {
      const owner = this.#mappings[this.#owners[at]!]!;
      if (owner.length > 0) throw new BusConflict("ports", mapping, owner);
    }
    this.#owners.fill(this.#mappings.length, port, port + length);
    this.#mappings.push(mapping);
  }

  /** The value read, unsigned, `size` bytes. */
  read(port: number, size: AccessSize): number {
    const mapping = this.#mappings[this.#owners[port]!]!;
    const offset = port - mapping.base;
    if (offset + size > mapping.length) return allOnes[size]!;
    mapping.lock.acquire();
    try {
      return mapping.device.read(offset, size);
    } finally {
      mapping.lock.release();
    }
  }

  write(port: number, size: AccessSize, value: number): void {
    const mapping = this.#mappings[this.#owners[port]!]!;
    const offset = port - mapping.base;
    if (offset + size > mapping.length) return;
    mapping.lock.acquire();
    try {
      mapping.device.write(offset, size, value);
    } finally {
      mapping.lock.release();
    }
  }
}
