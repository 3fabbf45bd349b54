import { expect, test } from "bun:test";
import { parseOptions } from "../../../src/cli/options.ts";
import type { BalloonSpec } from "../../../src/devices/virtio/balloon-config.ts";
import { ConfigError } from "../../../src/exit-codes.ts";
import { BalloonConfig } from "../../../src/machine/config/devices.ts";
import { MemoryConfig } from "../../../src/machine/config/machine.ts";
import { openBalloon } from "../../../src/machine/virtio/balloon.ts";

const open = (balloon: string, memory = "512M") =>
  openBalloon(
    parseOptions(BalloonConfig, balloon, "--balloon"),
    parseOptions(MemoryConfig, memory, "--memory"),
  );

const ring = 2 ** 28 + 2 ** 29;

test("is a device of virtio's type 5 that asks for so many pages", () => {
  const device = open("size=128M");

  expect([device.id, device.identity.type, device.identity.featuresHigh]).toEqual([
    "_balloon",
    5,
    1,
  ]);
  expect(new DataView(device.config.buffer).getUint32(0, true)).toBe(128 * 256);
  expect(device.identity.queueSizes.length).toBe(2);
  expect(device.identity.featuresLow).toBe(ring);
  expect(open("size=0,id=air").id).toBe("air");
});

test("each key is a feature", () => {
  expect(open("size=0,deflate_on_oom=on").identity.featuresLow - ring).toBe(2 ** 2);
  const { identity } = open("size=0,free_page_reporting=on");
  expect(identity.featuresLow - ring).toBe(2 ** 5);
  expect(identity.queueSizes.length).toBe(5);
});

test.each([
  ["size=0", "512M", { granule: 4096, shared: false }],
  ["size=0", "512M,shared=on", { granule: 4096, shared: true }],
  ["size=0", "512M,file=/x", { granule: 4096, shared: false }],
  ["size=0", "512M,mergeable=on", { granule: 4096, shared: false }],
  ["free_page_reporting=on", "512M,hugepages=on", { granule: 2 ** 21, shared: false }],
  ["free_page_reporting=on", "512M,hugepages=on,shared=on", { granule: 2 ** 21, shared: true }],
])("%s takes pages of %s back as its RAM is made", (balloon, memory, expected) => {
  expect(open(balloon, memory).backend.spec as BalloonSpec).toMatchObject(expected);
});

test.each([
  ["size=4097", "512M", "size=4097 is not a whole number of pages of 4K; round it"],
  ["size=512M", "512M", "size=536870912 leaves nothing of the guest's 536870912 bytes"],
  ["size=1M", "512M,hugepages=on", "pages of 4K do not come back from hugepages=on"],
  ["size=0", "512M,hugepages=on", "use free_page_reporting=on alone"],
  ["size=1M,free_page_reporting=on", "512M,hugepages=on", "pages of 4K do not come back"],
])("%s in a guest of %s is refused: %s", (balloon, memory, why) => {
  expect(() => open(balloon, memory)).toThrow(ConfigError);
  expect(() => open(balloon, memory)).toThrow(why);
});
