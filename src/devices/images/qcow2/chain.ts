/** The layers of an image, the first on top: where the bytes of the disk come from. */
import { hostAt, Kind, type Layer, runAt } from "./layer.ts";

/** Places in `where`: the layer's number, the offset in its file, and for how many bytes on the same holds. */
export const [layerAt, fileAt, bytesAt] = [0, 1, 2];

export class Chain {
  readonly where = new Float64Array(3);

  constructor(readonly layers: readonly Layer[]) {}

  /**
   * Finds what the disk holds at `offset`, in up to `length` bytes, as layer `from` and those below it have it. Never a
   * hole: what no layer has is zero. A miss is that of layer `where[layerAt]`.
   */
  resolve(from: number, offset: number, length: number): number {
    const { where, layers } = this;
    let most = length;
    for (let number = from; number < layers.length; number++) {
      const layer = layers[number]!;
      const kind = layer.lookup(offset, most);
      if (kind === Kind.hole) {
        most = layer.found[runAt]!;
        continue;
      }
      where[layerAt] = number;
      where[fileAt] = layer.found[hostAt]!;
      where[bytesAt] = layer.found[runAt]!;
      return kind;
    }
    where[bytesAt] = most;
    return Kind.zero;
  }
}
