/** SMBIOS tables against DSP0134, and as dmidecode (another program altogether) reads them. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildSmbios } from "../../src/firmware/smbios.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-smbios-"));
afterAll(() => rmSync(folder, { recursive: true }));

const place = { address: 0xf_0000, end: 0xf_4000 };
const uuid = "33221100-5544-7766-8899-aabbccddeeff";

/** What dmidecode says of a dump: a table at 32, the entry point in front. */
function dmidecode(platform: Partial<Parameters<typeof buildSmbios>[0]>, ...types: string[]) {
  const path = join(folder, "dump");
  writeFileSync(path, buildSmbios({ address: 0, end: 0x4000, ...platform }).data);
  const { stdout, stderr, exitCode } = Bun.spawnSync([
    ...["dmidecode", "--from-dump", path],
    ...types.flatMap((type) => ["--type", type]),
  ]);
  expect([stderr.toString(), exitCode]).toEqual(["", 0]);
  return stdout.toString();
}

test("the entry point, byte for byte", () => {
  const { address, data } = buildSmbios(place);

  expect(address).toBe(0xf_0000);
  const tableSize = data.length - 32;
  expect([...data.subarray(0, 32)]).toEqual([
    ...[0x5f, 0x53, 0x4d, 0x33, 0x5f], //     "_SM3_"
    data[5]!, //                              checksum, see below
    ...[0x18, 3, 3, 0, 1, 0], //              length, 3.3, docrev, revision of the entry point
    ...[tableSize, 0, 0, 0], //               maximum size
    ...[0x20, 0, 0x0f, 0, 0, 0, 0, 0], //     address
    ...[0, 0, 0, 0, 0, 0, 0, 0],
  ]);
  expect(data.subarray(0, 0x18).reduce((sum, byte) => sum + byte, 0) & 0xff).toBe(0);
});

test("dmidecode finds types 0, 1 and 127, and nothing that it calls broken", () => {
  const text = dmidecode({});

  expect(text).toContain("SMBIOS 3.3.0 present.");
  expect([...text.matchAll(/DMI type (\d+), (\d+) bytes/g)].map(([, t, n]) => `${t}:${n}`)).toEqual(
    ["0:24", "1:27", "127:4"],
  );
  expect(text).toContain("End Of Table");
  expect(text).not.toMatch(/broken|truncated|BAD|wrong|invalid/i);
});

test("BIOS information: who, and that this is a virtual machine", () => {
  const text = dmidecode({}, "0");

  expect(text).toMatch(/Vendor: chv\n/);
  expect(text).toContain("BIOS characteristics not supported");
  expect(text).toContain("System is a virtual machine");
  expect(text).not.toContain("Firmware Revision");
});

test("system information: serial number and UUID where they are given", () => {
  const plain = dmidecode({}, "1");
  const told = dmidecode({ serialNumber: "ds=nocloud;s=http://10.0.0.1/", uuid }, "1");

  expect(plain).toMatch(/Manufacturer: chv\n\tProduct Name: chv\n/);
  expect(plain).toMatch(/Serial Number: Not Specified\n\tUUID: Not Settable\n/);
  expect(told).toContain("Serial Number: ds=nocloud;s=http://10.0.0.1/\n");
  expect(told).toContain(`UUID: ${uuid}\n`);
  expect(told).toContain("Wake-up Type: Power Switch");
});

test("OEM strings, UTF-8 among them", () => {
  const oemStrings = ["io.systemd.credential:a=b", "ä"];
  const { data } = buildSmbios({ ...place, oemStrings });

  expect(dmidecode({ oemStrings }, "11")).toMatch(
    /String 1: io.systemd.credential:a=b\n\tString 2: /,
  );
  expect(Buffer.from(data).includes("\0ä\0\0")).toBe(true);
  expect(dmidecode({})).not.toContain("OEM Strings");
});

test("what does not fit is a RangeError", () => {
  const long = (count: number) => ({ ...place, oemStrings: Array(count).fill("x".repeat(100)) });

  expect(() => buildSmbios(long(255))).toThrow("there is room for 16352");
  expect(() => buildSmbios({ ...place, oemStrings: Array(256).fill("x") })).toThrow(
    "255 is the most",
  );
  expect(buildSmbios(long(100)).data.length).toBeLessThan(0x4000);
});
