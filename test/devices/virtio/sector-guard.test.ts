/** A raw disk whose format was probed, and a guest that would make it another format's. */
import { describe, expect, test } from "bun:test";
import type { DiskImage } from "../../../src/devices/images/disk-image.ts";
import { RawImage } from "../../../src/devices/images/raw.ts";
import { Disk, type DiskOptions } from "./disk.ts";

const sector = 512;
const [IN, OUT, WRITE_ZEROES] = [0, 1, 13];
const [OK, IOERR] = [0, 1];
const none = new Uint8Array(0);

/** A sector with `text` (latin1) at `offset`. */
function header(text: string, offset = 0, length = sector): Uint8Array {
  const bytes = new Uint8Array(length).fill(0x31);
  bytes.set(Buffer.from(text, "latin1"), offset);
  return bytes;
}

/** Magic numbers, from the formats' own documents. */
const formats = [
  ["qcow2", header("QFI\xfb\0\0\0\x03")],
  ["QED", header("QED\0")],
  ["VMDK", header("KDMV\x01\0\0\0")],
  ["VMDK", header("COWD")],
  ["VMDK", header("# Disk DescriptorFile\nversion=1\n")],
  ["VHD", header("conectix")],
  ["VHDX", header("vhdxfile")],
  ["VDI", header("\x7f\x10\xda\xbe", 64)],
] as const;

describe.each([
  ["by io_uring", true],
  ["by preadv2 and pwritev2", false],
])("%s", (_, uring) => {
  const disk = (options: DiskOptions = {}) => new Disk({ uring, guarded: true, ...options });

  test.each(formats)(
    "the header of a %s image is refused at sector 0, with one warning",
    (format, bytes) => {
      using device = disk();

      const framings = [
        {},
        { cutReadable: [17, 1, 3], indirect: true },
        { cutReadable: Array(12).fill(2) },
      ];
      for (const framing of framings) {
        expect(device.request(OUT, 0, bytes, 0, framing).status).toBe(IOERR);
      }
      expect(device.request(OUT, 0, new Uint8Array([...bytes, ...bytes]), 0).status).toBe(IOERR);

      expect(device.content()).toEqual(new Uint8Array(64 * sector));
      expect(device.warnings).toEqual([
        expect.stringMatching(new RegExp(`${format}.*image_type=raw`)),
      ]);
      expect(device.counters[7]).toBe(4);
    },
  );

  test("a guest may encrypt its whole disk", () => {
    using device = disk();
    expect(device.request(OUT, 0, header("LUKS\xba\xbe\0\x02"), 0).status).toBe(OK);
  });

  test("it is no matter elsewhere, nor where raw was asked for", () => {
    const [, bytes] = formats[0];
    using device = disk();
    using raw = disk({ guarded: false });

    expect(device.request(OUT, 1, bytes, 0).status).toBe(OK);
    expect(device.request(OUT, 0, new Uint8Array([...header("MBR"), ...bytes]), 0).status).toBe(OK);
    expect(raw.request(OUT, 0, bytes, 0).status).toBe(OK);

    expect(device.content(sector, sector)).toEqual(bytes);
    expect(raw.content(0, sector)).toEqual(bytes);
    expect([...device.warnings, ...raw.warnings]).toEqual([]);
  });

  test.each([
    ["in one piece", {}],
    ["cut inside the first sector", { cutReadable: [16, 100, 412] }],
    ["with the cut at its end", { cutReadable: [16 + sector] }],
    ["in many pieces", { cutReadable: Array(11).fill(120) }],
  ])("what is harmless is written as it is, %s", (_name, framing) => {
    using device = disk({ queueSize: 32 });
    const data = Uint8Array.from({ length: 5 * sector }, (_, i) => (i * 7 + (i >> 8)) & 0xff);

    expect(device.request(OUT, 0, data, 0, framing).status).toBe(OK);

    expect(device.content(0, 5 * sector)).toEqual(data);
    expect(device.request(IN, 0, none, 5 * sector).data).toEqual(data);
  });

  test("zeroes at sector 0 are harmless, and so is writing nothing", () => {
    using device = disk({ content: header("MBR", 0, 64 * sector) });
    const range = new Uint8Array(16);
    range[8] = 1;

    expect(device.request(WRITE_ZEROES, 0, range, 0).status).toBe(OK);
    expect(device.request(OUT, 0, none, 0).status).toBe(OK);

    expect(device.content(0, 2 * sector)).toEqual(header("", 0, 2 * sector).fill(0, 0, sector));
  });

  test("one block is copied, and no more: the rest comes from the guest's own pages", () => {
    const pieces: number[][] = [];
    using device = disk({
      openImage: (spec, transfers, client, ring, chores) => {
        const raw = new RawImage(spec.fd, transfers, client, ring ?? chores());
        const image: DiskImage = Object.create(raw);
        image.write = (slot, durable) => {
          const count = transfers.count(slot);
          pieces.push(Array.from({ length: count }, (_, i) => transfers.lengthOf(slot, i)));
          raw.write(slot, durable);
        };
        return image;
      },
    });
    const bytes = header("MBR", 0, 32 * sector);

    expect(device.request(OUT, 0, bytes, 0).status).toBe(OK);
    const cut = { cutReadable: [16, 300, 1000] };
    expect(device.request(OUT, 0, bytes, 0, cut).status).toBe(OK);

    expect(pieces).toEqual([
      [sector, 31 * sector],
      [sector, 1300 - sector, 32 * sector - 1300],
    ]);
    expect(device.content(0, bytes.length)).toEqual(bytes);
  });

  test("what was looked at is what is written, whatever the guest does meanwhile", () => {
    /** Writes begin only when the image is let go. */
    let letGo = () => {};
    using device = disk({
      openImage: (spec, transfers, client, ring, chores) => {
        const raw = new RawImage(spec.fd, transfers, client, ring ?? chores());
        const image: DiskImage = Object.create(raw);
        image.write = (slot, durable) => {
          letGo = () => raw.write(slot, durable);
        };
        return image;
      },
    });
    const place = 0x2_0000;
    const wait = device.send(OUT, 0, header("harmless", 0, 2 * sector), 0, {}, place);
    device.backend.kicked(0);

    device.ram.bytes(place + 16, sector).set(formats[0][1]);
    letGo();
    device.backend.kicked(0);

    expect(wait().status).toBe(OK);
    expect(device.content(0, sector)).toEqual(header("harmless"));
  });
});
