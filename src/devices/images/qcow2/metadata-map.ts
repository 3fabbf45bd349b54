/**
 * Which clusters of an image hold its own tables: no data is written there, and none is allocated there, whatever an
 * image's entries say. A hash set of cluster numbers.
 */
const count = 0;

export class MetadataMap {
  private readonly state = new Uint32Array(1);
  /** The table, in a list so that it can be replaced by a larger one. A free place is -1. */
  private readonly tables: Float64Array[] = [new Float64Array(256).fill(-1)];

  has(cluster: number): boolean {
    const table = this.tables[0]!;
    return table[this.placeOf(table, cluster)] === cluster;
  }

  /** False when the cluster was there already. */
  add(cluster: number): boolean {
    if (this.has(cluster)) return false;
    if (++this.state[count]! * 2 > this.tables[0]!.length) this.grow();
    const table = this.tables[0]!;
    table[this.placeOf(table, cluster)] = cluster;
    return true;
  }

  delete(cluster: number): void {
    const table = this.tables[0]!;
    const mask = table.length - 1;
    let gap = this.placeOf(table, cluster);
    if (table[gap] !== cluster) return;
    this.state[count]!--;
    // those behind move up, unless they are before their own place then
    for (let at = (gap + 1) & mask; table[at] !== -1; at = (at + 1) & mask) {
      const home = placeIn(table, table[at]!);
      if (((at - home) & mask) < ((at - gap) & mask)) continue;
      table[gap] = table[at]!;
      gap = at;
    }
    table[gap] = -1;
  }

  /** Adds clusters in a row; false when one of them was there already. */
  addAll(first: number, clusters: number): boolean {
    let fresh = true;
    for (let i = 0; i < clusters; i++) fresh = this.add(first + i) && fresh;
    return fresh;
  }

  private placeOf(table: Float64Array, cluster: number): number {
    const mask = table.length - 1;
    let at = placeIn(table, cluster);
    while (table[at] !== -1 && table[at] !== cluster) at = (at + 1) & mask;
    return at;
  }

  private grow(): void {
    const old = this.tables[0]!;
    const table = new Float64Array(old.length * 2).fill(-1);
    for (const cluster of old) {
      if (cluster !== -1) table[this.placeOf(table, cluster)] = cluster;
    }
    this.tables[0] = table;
  }
}

/** Neighbours far apart: tables often lie side by side. */
const placeIn = (table: Float64Array, cluster: number): number =>
  (Math.imul(cluster, 0x9e3779b1) >>> 7) & (table.length - 1);
