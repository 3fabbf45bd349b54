/** Another worker of net-shares.test.ts: it is in the midst of its turn until someone waits for that. */
import { NetShared } from "../../../src/devices/virtio/net-shared.ts";

declare const self: Worker;
/** A lock that someone waits for (bus/lock.ts). */
const contended = 2;

self.onmessage = ({ data: { shared: spec, seen } }) => {
  const shared = new NetShared(spec);
  shared.enter(1);
  self.postMessage("entered");
  // the locks are the last of the words: one for each of at most 8 pairs
  const words = new Int32Array(spec.buffer);
  const lock = words.length - 8 + 1;
  const end = Date.now() + 60_000;
  while (Atomics.load(words, lock) !== contended && Date.now() < end);
  seen[0] = Atomics.load(words, lock) === contended ? 1 : 0;
  seen[1] = shared.inUse;
  shared.leave(1);
};
