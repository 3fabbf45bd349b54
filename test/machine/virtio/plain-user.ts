/** Run by a plain user: opens each interface that the arguments describe; prints what it said, and what it can do with it. */
import { parseOptions } from "../../../src/cli/options.ts";
import type { NetSpec } from "../../../src/devices/virtio/net-config.ts";
import { NetConfig } from "../../../src/machine/config/devices.ts";
import { Owned } from "../../../src/machine/owned.ts";
import { openNet } from "../../../src/machine/virtio/nets.ts";

for (const text of process.argv.slice(2)) {
  const owned = new Owned();
  try {
    const { backend } = openNet(parseOptions(NetConfig, text, "--net"), 0, owned);
    console.log(`${(backend.spec as NetSpec).taps.length} queues`);
  } catch (error) {
    console.log((error as Error).message);
  }
  owned.close();
}
