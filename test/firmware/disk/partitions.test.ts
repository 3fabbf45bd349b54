/** Partition tables as sgdisk and sfdisk write them. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { DiskError, type Medium } from "../../../src/firmware/disk/medium.ts";
import { readPartitions } from "../../../src/firmware/disk/partitions.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-partitions-"));
afterAll(() => rmSync(folder, { recursive: true }));

const MiB = 2 ** 20;
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
let disks = 0;

async function disk(size: number, command: string[], input = ""): Promise<string> {
  const path = join(folder, `disk${disks++}`);
  writeFileSync(path, "");
  truncateSync(path, size);
  const stdin = Buffer.from(input);
  const program = Bun.spawn([...command, path], { env, stdin, stdout: "ignore", stderr: "pipe" });
  if ((await program.exited) !== 0) throw new Error(await program.stderr.text());
  return path;
}

function medium(bytes: Uint8Array): Medium {
  return {
    size: bytes.length,
    read(offset, length) {
      if (offset < 0 || offset + length > bytes.length) throw new DiskError("beyond the end");
      return bytes.slice(offset, offset + length);
    },
  };
}

const read = (path: string) => readPartitions(medium(readFileSync(path)));
const uuids = ["11111111-2222-3333-4444-555555555555", "AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE"];

/** Ubuntu's layout: the root is partition 1 and lies last. */
const ubuntu = [
  ...["sgdisk", "-n", "14:2048:10239", "-t", "14:ef02", "-n", "15:10240:20479", "-t", "15:ef00"],
  ...["-n", "1:20480:0", "-c", "1:cloudimg root", "-u", `1:${uuids[0]}`, "-u", `15:${uuids[1]}`],
];

// sgdisk sleeps for a second when it has written: it runs once for each table, side by side.
const [ubuntuDisk, smallDisk] = [
  disk(32 * MiB, ubuntu),
  disk(4 * MiB, ["sgdisk", "-n", "1:2048:0"]),
];

test("GPT: numbers, places, types, names and UUIDs", async () => {
  const table = read(await ubuntuDisk)!;

  expect(table.kind).toBe("gpt");
  expect(table.partitions.map(({ number, start, type }) => [number, start / 512, type])).toEqual([
    [1, 20480, "0fc63daf-8483-4772-8e79-3d69d8477de4"],
    [14, 2048, "21686148-6449-6e6f-744e-656564454649"],
    [15, 10240, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"],
  ]);
  const [root, , esp] = table.partitions;
  expect([root!.name, root!.uuid, esp!.uuid]).toEqual([
    "cloudimg root",
    uuids[0]!.toLowerCase(),
    uuids[1]!.toLowerCase(),
  ]);
  expect(esp!.size).toBe((20480 - 10240) * 512);
});

test("GPT: the copy at the end serves when the first is broken", async () => {
  const bytes = readFileSync(await ubuntuDisk);
  const whole = readPartitions(medium(bytes))!;
  bytes.fill(0, 512, 1024);

  expect(readPartitions(medium(bytes))).toEqual(whole);
  bytes.fill(0, bytes.length - 512);
  expect(() => readPartitions(medium(bytes))).toThrow("neither the header nor its copy is whole");
});

test("GPT: entries that were changed are not believed", async () => {
  const bytes = readFileSync(await ubuntuDisk);
  const whole = readPartitions(medium(bytes))!;
  bytes[1024 + 32] = bytes[1024 + 32]! ^ 1;

  expect(readPartitions(medium(bytes))).toEqual(whole); // by the copy
});

test("MBR: primary and logical partitions, as Linux numbers them", async () => {
  const script = [
    ...["label: dos", "label-id: 0x1a2b3c4d", "start=2048,size=4096,type=83,bootable"],
    ...["start=8192,size=20480,type=5", "start=10240,size=2048,type=83"],
    ...["start=14336,size=4096,type=82"],
  ].join("\n");
  const table = read(await disk(16 * MiB, ["sfdisk", "-q"], `${script}\n`))!;

  expect(table.kind).toBe("mbr");
  expect(
    table.partitions.map(({ number, start, size, type, uuid }) => [
      ...[number, start / 512, size / 512, type, uuid],
    ]),
  ).toEqual([
    [1, 2048, 4096, "0x83", "1a2b3c4d-01"],
    [5, 10240, 2048, "0x83", "1a2b3c4d-05"],
    [6, 14336, 4096, "0x82", "1a2b3c4d-06"],
  ]);
});

test("a bare file system has no table", async () => {
  expect(read(await disk(8 * MiB, ["mke2fs", "-q", "-F"]))).toBeUndefined();
  expect(read(await disk(8 * MiB, ["mkfs.vfat"]))).toBeUndefined();
});

test("broken tables are an error in a line, or none", async () => {
  const good = readFileSync(await smallDisk);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(4095), fc.integer({ min: 0, max: 255 })), { maxLength: 20 }),
      fc.integer({ min: 0, max: 4 * MiB }),
      (changes, length) => {
        const bytes = new Uint8Array(good.subarray(0, length));
        for (const [at, value] of changes) if (at < length) bytes[at] = value;
        try {
          readPartitions(medium(bytes));
        } catch (error) {
          expect(error).toBeInstanceOf(DiskError);
        }
      },
    ),
  );
});
