/**
 * The numbers of virtio against <linux/virtio_*.h>, through the C compiler, and the capability list as a driver walks it:
 * PCI Local Bus 3.0 section 6.7, virtio 1.2 section 4.1.4.
 */
import { expect, test } from "bun:test";
import { Common } from "../../../src/devices/virtio/pci-registers.ts";
import {
  DeviceType,
  Feature,
  Isr,
  maxQueueSize,
  noVector,
  Status,
} from "../../../src/devices/virtio/registers.ts";
import { valuesInC } from "../../headers.ts";
import { Rig } from "./rig.ts";

const headers = ["config", "ids", "pci", "ring"].map((name) => `linux/virtio_${name}`);

test("status bits, features, types and the common configuration are the headers'", () => {
  const ours: Record<string, number> = {
    VIRTIO_MSI_NO_VECTOR: noVector,
    VIRTIO_PCI_ISR_CONFIG: Isr.config,
    "sizeof(struct virtio_pci_common_cfg)": 56,
  };
  for (const [name, value] of Object.entries(Status)) {
    ours[`VIRTIO_CONFIG_S_${name}`] = value;
  }
  for (const [name, value] of Object.entries(Feature)) {
    const known = name.startsWith("RING_") ? name.replace("RING_", "RING_F_") : `F_${name}`;
    ours[`VIRTIO_${known}`] = value;
  }
  for (const [name, value] of Object.entries(Common)) ours[`VIRTIO_PCI_COMMON_${name}`] = value;
  const ids = {
    net: "NET",
    block: "BLOCK",
    console: "CONSOLE",
    entropy: "RNG",
    balloon: "BALLOON",
    pmem: "PMEM",
  };
  for (const [name, value] of Object.entries(DeviceType)) {
    ours[`VIRTIO_ID_${ids[name as keyof typeof ids]}`] = value;
  }

  expect(ours).toEqual(valuesInC(headers, Object.keys(ours)));
  expect(Object.keys(ours).length).toBeGreaterThan(30);
  expect(maxQueueSize).toBeLessThanOrEqual(32768); // section 2.7
});

const slot = 5;

/** The list as lspci walks it: [offset, id, the bytes up to the next power of what is needed]. */
function capabilities(rig: Rig): { at: number; id: number }[] {
  const found: { at: number; id: number }[] = [];
  for (let at = rig.configRead(slot, 0x34, 1); at !== 0; at = rig.configRead(slot, at + 1, 1)) {
    expect(at % 4).toBe(0);
    expect(at).toBeGreaterThanOrEqual(0x40);
    expect(found.some((other) => other.at === at)).toBe(false);
    found.push({ at, id: rig.configRead(slot, at, 1) });
  }
  return found;
}

const c = valuesInC(headers, [
  "VIRTIO_PCI_CAP_COMMON_CFG",
  "VIRTIO_PCI_CAP_NOTIFY_CFG",
  "VIRTIO_PCI_CAP_ISR_CFG",
  "VIRTIO_PCI_CAP_DEVICE_CFG",
  "VIRTIO_PCI_CAP_PCI_CFG",
  "sizeof(struct virtio_pci_cap)",
  "sizeof(struct virtio_pci_notify_cap)",
  "sizeof(struct virtio_pci_cfg_cap)",
  "offsetof(struct virtio_pci_cap, cap_len)",
  "offsetof(struct virtio_pci_cap, cfg_type)",
  "offsetof(struct virtio_pci_cap, bar)",
  "offsetof(struct virtio_pci_cap, offset)",
  "offsetof(struct virtio_pci_cap, length)",
  "offsetof(struct virtio_pci_notify_cap, notify_off_multiplier)",
  "offsetof(struct virtio_pci_cfg_cap, pci_cfg_data)",
]);

/** The vendor capabilities by their type. */
function structures(rig: Rig) {
  const vendor = capabilities(rig).filter(({ id }) => id === 0x09);
  return new Map(
    vendor.map(({ at }) => {
      const field = (name: string, size: 1 | 4) =>
        rig.configRead(
          slot,
          at + c[`offsetof(struct virtio_pci_cap, ${name})` as keyof typeof c],
          size,
        );
      const type = field("cfg_type", 1);
      const [offset, length] = [field("offset", 4), field("length", 4)];
      return [type, { at, bar: field("bar", 1), size: field("cap_len", 1), offset, length }];
    }),
  );
}

test("the header is that of a modern virtio function with an interrupt pin and capabilities", () => {
  const rig = new Rig();
  rig.add(slot, { type: 4 });

  expect(rig.configRead(slot, 0x00, 4)).toBe(0x1044_1af4);
  expect(rig.configRead(slot, 0x08, 1)).toBeGreaterThanOrEqual(1); // section 4.1.2.1
  expect(rig.configRead(slot, 0x2c, 2)).toBe(0x1af4);
  expect(rig.configRead(slot, 0x2e, 2)).toBeGreaterThanOrEqual(0x40);
  expect(rig.configRead(slot, 0x06, 2)).toBe(0x10);
  expect(rig.configRead(slot, 0x3d, 1)).toBe(1);
});

test("capabilities do not overlap, and lie in the 256 bytes", () => {
  const rig = new Rig();
  rig.add(slot);
  const lengths = new Map([...structures(rig).values()].map(({ at, size }) => [at, size]));

  const ends = capabilities(rig)
    .map(({ at, id }) => [at, at + (id === 0x11 ? 12 : lengths.get(at)!)] as const)
    .toSorted(([a], [b]) => a - b);

  for (const [i, [at, end]] of ends.entries()) {
    expect(end).toBeGreaterThan(at);
    expect(end).toBeLessThanOrEqual(ends[i + 1]?.[0] ?? 256);
  }
});

test("MSI-X: as many vectors as the function has, table and pending bits apart in BAR 0", () => {
  const rig = new Rig();
  rig.add(slot, { vectors: 18 });
  const [msix] = capabilities(rig).filter(({ id }) => id === 0x11);
  const at = msix!.at;

  expect(rig.configRead(slot, at + 2, 2)).toBe(17);
  const [table, pba] = [4, 8].map((offset) => rig.configRead(slot, at + offset, 4));
  expect([table! % 8, pba! % 8]).toEqual([0, 0]); // BIR 0
  expect(pba! - table!).toBeGreaterThanOrEqual(18 * 16);
  expect(pba! + 8).toBeLessThanOrEqual(0x1_0000);

  for (const offset of [0, 4, 8]) rig.configWrite(slot, at + offset, 4, 0xffff_ffff);
  expect(rig.configRead(slot, at + 2, 2)).toBe(0xc011);
  expect([4, 8].map((offset) => rig.configRead(slot, at + offset, 4))).toEqual([table!, pba!]);
});

test("the five structures are announced, apart from each other, whole in BAR 0", () => {
  const rig = new Rig();
  rig.add(slot);
  const found = structures(rig);
  const known = [
    [c.VIRTIO_PCI_CAP_COMMON_CFG, 56, "struct virtio_pci_cap"],
    [c.VIRTIO_PCI_CAP_NOTIFY_CFG, 2 * 4, "struct virtio_pci_notify_cap"],
    [c.VIRTIO_PCI_CAP_ISR_CFG, 1, "struct virtio_pci_cap"],
    [c.VIRTIO_PCI_CAP_DEVICE_CFG, 8, "struct virtio_pci_cap"],
    [c.VIRTIO_PCI_CAP_PCI_CFG, 0, "struct virtio_pci_cfg_cap"],
  ] as const;

  expect([...found.keys()].toSorted()).toEqual(known.map(([type]) => type));
  for (const [type, least, name] of known) {
    const { bar, size, offset, length } = found.get(type)!;
    expect(size).toBe(c[`sizeof(${name})`]);
    expect(bar).toBe(0);
    expect(length).toBeGreaterThanOrEqual(least);
    expect(offset % 4).toBe(0);
    expect(offset + length).toBeLessThanOrEqual(0x8000); // where the MSI-X table begins
  }
  const places = [...found.values()].filter(({ length }) => length > 0);
  const sorted = places.toSorted((a, b) => a.offset - b.offset);
  for (const [i, { offset, length }] of sorted.entries()) {
    expect(offset + length).toBeLessThanOrEqual(sorted[i + 1]?.offset ?? 0x8000);
  }
});

test("each queue has a notify register of its own", () => {
  const rig = new Rig();
  rig.add(slot);
  const { at } = structures(rig).get(c.VIRTIO_PCI_CAP_NOTIFY_CFG)!;
  const field = c["offsetof(struct virtio_pci_notify_cap, notify_off_multiplier)"];

  expect(rig.configRead(slot, at + field, 4)).toBe(4);
});

test("of the structures only the window's bar, offset, length and data can be written", () => {
  const rig = new Rig();
  rig.add(slot);
  const found = structures(rig);
  const read = (at: number, size: number) =>
    Array.from({ length: size / 4 }, (_, i) => rig.configRead(slot, at + 4 * i, 4));
  const before = [...found].map(([type, { at, size }]) => [type, read(at, size)] as const);

  for (const { at, size } of found.values()) {
    for (let i = 0; i < size; i += 4) rig.configWrite(slot, at + i, 4, 0xffff_ffff);
  }

  for (const [type, words] of before) {
    const { at, size } = found.get(type)!;
    const open = [words[0]!, 0xff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff];
    expect(read(at, size)).toEqual(type === c.VIRTIO_PCI_CAP_PCI_CFG ? open : words);
  }
  expect(c["offsetof(struct virtio_pci_cfg_cap, pci_cfg_data)"]).toBe(16);
});
