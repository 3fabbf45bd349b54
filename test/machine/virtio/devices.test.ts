/** All devices of a configuration at once: their order, which decides their addresses, and what all of them offer. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "valibot";
import { ConfigError } from "../../../src/exit-codes.ts";
import { type BootConfig, complete, VmConfigSchema } from "../../../src/machine/config/vm.ts";
import { Owned } from "../../../src/machine/owned.ts";
import { openDevices } from "../../../src/machine/virtio/devices.ts";
import type { VirtioDevice } from "../../../src/machine/virtio/spec.ts";
import { NetworkNamespace } from "../../network/namespace.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-devices-"));
const namespace = new NetworkNamespace();
afterAll(() => {
  namespace[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

const file = (name: string, bytes: number): string => {
  writeFileSync(join(folder, name), "");
  truncateSync(join(folder, name), bytes);
  return join(folder, name);
};
const [image, other, memory] = [file("one", 4096), file("two", 4096), file("pmem", 2 ** 21)];

/** Runs with the devices of one machine that has all kinds, in an order that is not theirs. */
function withAll(config: object, look: (devices: readonly VirtioDevice[]) => void): void {
  const owned = new Owned();
  const given = {
    ...{ ports: [{ name: "log", mode: "Null" }], balloon: { size: 0, free_page_reporting: true } },
    ...{ pmem: [{ file: memory }], net: [{}, { num_queues: 4 }] },
    ...{ disks: [{ path: image }, { path: other, num_queues: 2 }], console: { mode: "Null" } },
    ...config,
  };
  try {
    const whole = complete(parse(VmConfigSchema, given));
    look(namespace.run(() => openDevices(whole as BootConfig, owned)));
  } finally {
    owned.close();
  }
}

test("devices come in a fixed order: console, disks, nets, rng, pmem, and what came later", () => {
  withAll({}, (devices) => {
    expect(devices.map(({ id }) => id)).toEqual([
      ...["__console", "_disk0", "_disk1", "_net0", "_net1", "__rng", "_pmem0"],
      ...["_balloon", "__ports"],
    ]);
    // virtio 1.2 section 5: console 3, block 2, net 1, entropy 4, pmem 27, balloon 5
    expect(devices.map(({ identity }) => identity.type)).toEqual([3, 2, 2, 1, 1, 4, 27, 5, 3]);
  });
});

test("every device offers VERSION_1, indirect descriptors and the event index; nothing else from bit 24 on", () => {
  withAll({}, (devices) => {
    for (const { id, identity } of devices) {
      const { featuresLow: low, featuresHigh: high } = identity;
      expect([id, low >>> 24, high]).toEqual([id, (1 << (28 - 24)) | (1 << (29 - 24)), 1]);
    }
  });
});

test("an id names one device, whatever its kind", () => {
  const twins = { disks: [{ path: image, id: "one" }], net: [{ id: "one" }] };

  expect(() => withAll(twins, () => {})).toThrow(
    new ConfigError(`--net id=one: id=one names --disk ${image} too; choose another`, "--net"),
  );
});
