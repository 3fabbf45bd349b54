/** The protocol's structs, against the kernel's headers and against the sizes that the specification draws. */
import { expect, test } from "bun:test";
import * as protocol from "../../../src/devices/vhost-user/protocol.ts";
import { valuesInC } from "../../headers.ts";

test("the structs that the kernel knows too are its own", () => {
  const values = valuesInC(
    ["linux/vhost_types"],
    [
      "sizeof(struct vhost_vring_state)",
      "offsetof(struct vhost_vring_state, num)",
      "sizeof(struct vhost_vring_addr)",
      "offsetof(struct vhost_vring_addr, flags)",
      "offsetof(struct vhost_vring_addr, desc_user_addr)",
      "offsetof(struct vhost_vring_addr, used_user_addr)",
      "offsetof(struct vhost_vring_addr, avail_user_addr)",
      "offsetof(struct vhost_vring_addr, log_guest_addr)",
      "VHOST_VRING_F_LOG",
      "1 << VHOST_VRING_F_LOG",
    ],
  );
  const { VringState, VringAddr } = protocol;

  expect(VringState.size).toBe(values["sizeof(struct vhost_vring_state)"]);
  expect(VringState.offsets.num).toBe(values["offsetof(struct vhost_vring_state, num)"]);
  expect(VringAddr.size).toBe(values["sizeof(struct vhost_vring_addr)"]);
  for (const name of Object.keys(VringAddr.offsets) as (keyof typeof VringAddr.offsets)[]) {
    if (name === "index") continue;
    expect(VringAddr.offsets[name]).toBe(values[`offsetof(struct vhost_vring_addr, ${name})`]);
  }
  expect(protocol.vringLogFlag).toBe(values["1 << VHOST_VRING_F_LOG"]);
});

// vhost-user, "Message Specification" and "Inflight I/O tracking"
test.each([
  [protocol.Header, 12, { request: 0, flags: 4, size: 8 }],
  [protocol.Memory, 8, { nregions: 0 }],
  [
    protocol.MemoryRegion,
    32,
    { guest_phys_addr: 0, memory_size: 8, userspace_addr: 16, mmap_offset: 24 },
  ],
  [protocol.SingleMemoryRegion, 8, {}],
  [protocol.ConfigSpace, 12, { offset: 0, size: 4, flags: 8 }],
  [protocol.Inflight, 24, { mmap_size: 0, mmap_offset: 8, num_queues: 16, queue_size: 18 }],
  [
    protocol.QueueRegionSplit,
    16,
    { features: 0, version: 8, desc_num: 10, last_batch_head: 12, used_idx: 14 },
  ],
  [protocol.DescStateSplit, 16, { inflight: 0, next: 6, counter: 8 }],
])("%p is %d bytes", (type, size, offsets) => {
  expect(type.size).toBe(size);
  expect(type.offsets).toMatchObject(offsets);
});
