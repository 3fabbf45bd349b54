/**
 * A second opinion on qcow2 images, written from docs/interop/qcow2.rst: what an image holds, and whether its tables are
 * sound, as `qemu-img check` understands it. Not for compressed content, whose clusters are counted only.
 */

const clusterOffset = (entry: bigint) => Number(entry & 0x00ff_ffff_ffff_fe00n);
const copied = (entry: bigint) => entry >> 63n === 1n;
const compressed = (entry: bigint) => ((entry >> 62n) & 1n) === 1n;

export interface Verdict {
  /** What is wrong, in words. */
  readonly corruptions: string[];
  /** Clusters whose refcount is higher than their references. */
  leaks: number;
}

export class ImageFile {
  readonly view: DataView;
  readonly version: number;
  readonly clusterBits: number;
  readonly clusterBytes: number;
  readonly bytes: number;
  readonly order: number;
  readonly end: number;

  constructor(
    readonly file: Uint8Array,
    readonly backing?: Uint8Array,
  ) {
    this.view = new DataView(file.buffer, file.byteOffset, file.length);
    if (this.view.getUint32(0) !== 0x514649fb) throw new Error("no qcow2 image");
    this.version = this.view.getUint32(4);
    this.clusterBits = this.view.getUint32(20);
    this.clusterBytes = 2 ** this.clusterBits;
    this.bytes = this.#u64(24);
    this.order = this.version === 2 ? 4 : this.view.getUint32(96);
    this.end = Math.ceil(file.length / this.clusterBytes) * this.clusterBytes;
  }

  /** The L2 entry for a guest cluster; 0 without a table. */
  entry(cluster: number): bigint {
    const perTable = this.clusterBytes / 8;
    const table = clusterOffset(this.#entry(this.#u64(40) + Math.floor(cluster / perTable) * 8));
    return table === 0 ? 0n : this.#entry(table + (cluster % perTable) * 8);
  }

  /** A sector of the disk; undefined where it is compressed. */
  sector(number: number): Uint8Array | undefined {
    const offset = number * 512;
    const entry = this.entry(Math.floor(offset / this.clusterBytes));
    const sector = new Uint8Array(512);
    if (compressed(entry)) return undefined;
    if ((entry & 1n) === 1n) return sector;
    const host = clusterOffset(entry);
    if (host === 0) {
      if (this.backing) sector.set(this.backing.subarray(offset, offset + 512));
      return sector;
    }
    const from = host + (offset % this.clusterBytes);
    sector.set(this.file.subarray(from, from + 512)); // behind the end of the file there are zeroes
    return sector;
  }

  check(): Verdict {
    const verdict: Verdict = { corruptions: [], leaks: 0 };
    const wrong = (text: string) => verdict.corruptions.push(text);
    const used = new Map<number, number>();
    const use = (offset: number, length: number, what: string) => {
      const last = Math.floor((offset + length - 1) / this.clusterBytes);
      for (let i = Math.floor(offset / this.clusterBytes); i <= last; i++) {
        if ((i + 1) * this.clusterBytes > this.end) wrong(`${what} at cluster ${i} is outside`);
        used.set(i, (used.get(i) ?? 0) + 1);
      }
    };
    use(0, this.clusterBytes, "the header");
    const tableOffset = this.#u64(48);
    const tableBytes = this.view.getUint32(56) * this.clusterBytes;
    use(tableOffset, tableBytes, "the refcount table");
    for (let at = 0; at < tableBytes; at += 8) {
      const block = Number(this.#entry(tableOffset + at));
      if (block === 0) continue;
      if (block % this.clusterBytes !== 0) wrong(`refcount block at ${block}`);
      use(block, this.clusterBytes, "a refcount block");
    }
    this.#countL1(this.#u64(40), this.view.getUint32(36), use, wrong, true);
    this.#countSnapshots(use, wrong);
    const clusters = this.end / this.clusterBytes;
    const users = (cluster: number) => used.get(cluster) ?? 0;
    for (let i = 0; i < clusters; i++) {
      const count = this.refcount(i);
      if (count < users(i)) wrong(`cluster ${i}: refcount ${count}, references ${users(i)}`);
      if (count > users(i)) verdict.leaks++;
    }
    return verdict;
  }

  refcount(cluster: number): number {
    const perBlock = (this.clusterBytes * 8) / 2 ** this.order;
    const index = Math.floor(cluster / perBlock);
    if (index * 8 >= this.view.getUint32(56) * this.clusterBytes) return 0;
    const block = Number(this.#entry(this.#u64(48) + index * 8));
    if (block === 0) return 0;
    const bits = 2 ** this.order;
    const place = (cluster % perBlock) * bits;
    const at = block + Math.floor(place / 8);
    if (bits < 8) return ((this.file[at] ?? 0) >> (place % 8)) & (2 ** bits - 1);
    let value = 0;
    for (let i = 0; i < bits / 8; i++) value = value * 256 + (this.file[at + i] ?? 0);
    return value;
  }

  #countL1(
    offset: number,
    entries: number,
    use: (offset: number, length: number, what: string) => void,
    wrong: (text: string) => void,
    active: boolean,
  ): void {
    if (entries > 0) use(offset, entries * 8, "an L1 table");
    for (let i = 0; i < entries; i++) {
      const l1 = this.#entry(offset + i * 8);
      const table = clusterOffset(l1);
      if (table === 0) continue;
      if ((l1 & 0x7f00_0000_0000_01ffn) !== 0n) wrong(`L1 entry ${i} has reserved bits`);
      use(table, this.clusterBytes, "an L2 table");
      if (active) this.#checkCopied(l1, table, `L1 entry ${i}`, wrong);
      for (let j = 0; j < this.clusterBytes / 8; j++) {
        const l2 = this.#entry(table + j * 8);
        if (compressed(l2)) {
          const x = BigInt(62 - (this.clusterBits - 8));
          const start = Number(l2 & ((1n << x) - 1n));
          const sectors = Number((l2 & 0x3fff_ffff_ffff_ffffn) >> x) + 1;
          use(start, sectors * 512 - (start % 512), "compressed data");
          continue;
        }
        const host = clusterOffset(l2);
        if (host === 0) continue;
        if (host % this.clusterBytes !== 0) wrong(`L2 entry ${i}/${j} is not aligned`);
        if (this.version === 2 && (l2 & 1n) === 1n) wrong(`L2 entry ${i}/${j} is a zero cluster`);
        use(host, this.clusterBytes, `data of L2 entry ${i}/${j}`);
        if (active) this.#checkCopied(l2, host, `L2 entry ${i}/${j}`, wrong);
      }
    }
  }

  /** Bit 63 says that the refcount is exactly one. */
  #checkCopied(entry: bigint, host: number, name: string, wrong: (text: string) => void): void {
    const count = this.refcount(host / this.clusterBytes);
    if (copied(entry) !== (count === 1)) wrong(`${name}: COPIED does not fit refcount ${count}`);
  }

  #countSnapshots(
    use: (offset: number, length: number, what: string) => void,
    wrong: (text: string) => void,
  ): void {
    const start = this.#u64(64);
    let at = start;
    for (let i = 0; i < this.view.getUint32(60); i++) {
      const [l1, entries] = [this.#u64(at), this.view.getUint32(at + 8)];
      const [id, name] = [this.view.getUint16(at + 12), this.view.getUint16(at + 14)];
      this.#countL1(l1, entries, use, wrong, false);
      at += Math.ceil((40 + this.view.getUint32(at + 36) + id + name) / 8) * 8;
    }
    if (at > start) use(start, at - start, "the snapshot table");
  }

  #u64(at: number): number {
    return Number(this.view.getBigUint64(at));
  }

  /** An entry of a table; what lies behind the end of the file is zero. */
  #entry(at: number): bigint {
    return at + 8 <= this.file.length ? this.view.getBigUint64(at) : 0n;
  }
}
