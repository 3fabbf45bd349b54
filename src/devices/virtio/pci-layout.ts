/**
 * Where a virtio-pci function's registers lie in its one BAR, and the vendor capabilities that tell the driver
 * (virtio 1.2 section 4.1.4; linux/virtio_pci.h).
 */

/** Offsets in the BAR, a page for each so that a hypervisor could map one alone. */
export const BarLayout = {
  common: 0x0000,
  isr: 0x1000,
  device: 0x2000,
  notify: 0x3000,
  msixTable: 0x8000,
  msixPending: 0xc000,
  end: 0x1_0000,
} as const;

export const virtioBar = 0;
/** Bytes between the notify registers of two queues. */
export const notifyMultiplier = 4;

const capabilityType = { common: 1, notify: 2, isr: 3, device: 4, pci: 5 } as const;
/** Lengths of the structures that the capabilities point at. */
const lengths = { common: 56, isr: 1, device: 0x1000, notify: 0x1000 } as const;

/** struct virtio_pci_cap without its first two bytes: cap_len, cfg_type, bar, id, padding, offset, length. */
function capability(
  type: number,
  offset: number,
  length: number,
  extra: number[] = [],
): Uint8Array {
  const body = new Uint8Array(14 + extra.length * 4);
  const view = new DataView(body.buffer);
  body[0] = body.length + 2;
  body[1] = type;
  body[2] = virtioBar;
  view.setUint32(6, offset, true);
  view.setUint32(10, length, true);
  for (const [index, word] of extra.entries()) view.setUint32(14 + index * 4, word, true);
  return body;
}

/** The capabilities in their order, each as the bytes behind id and link, with the bits that the guest may write. */
export const virtioCapabilities: readonly { body: Uint8Array; mask?: Uint8Array }[] = [
  { body: capability(capabilityType.common, BarLayout.common, lengths.common) },
  {
    body: capability(capabilityType.notify, BarLayout.notify, lengths.notify, [notifyMultiplier]),
  },
  { body: capability(capabilityType.isr, BarLayout.isr, lengths.isr) },
  { body: capability(capabilityType.device, BarLayout.device, lengths.device) },
  // bar, offset, length and pci_cfg_data are the driver's to write
  { body: capability(capabilityType.pci, 0, 0, [0]), mask: windowMask() },
];

function windowMask(): Uint8Array {
  const mask = new Uint8Array(18);
  mask[2] = 0xff;
  mask.fill(0xff, 6, 18);
  return mask;
}

/** Offsets in the last capability, from its first byte: which BAR, where, how much, and the data itself. */
export const PciWindow = { bar: 4, offset: 8, length: 12, data: 16 } as const;

/** The body of an MSI-X capability (PCI Local Bus 3.0, 6.8.2): message control, table and pending bits in the BAR. */
export function msixCapability(vectors: number): { body: Uint8Array; mask: Uint8Array } {
  const body = new Uint8Array(10);
  const view = new DataView(body.buffer);
  view.setUint16(0, vectors - 1, true);
  view.setUint32(2, BarLayout.msixTable | virtioBar, true);
  view.setUint32(6, BarLayout.msixPending | virtioBar, true);
  const mask = new Uint8Array(10);
  mask[1] = 0xc0; // enable, and function mask
  return { body, mask };
}
