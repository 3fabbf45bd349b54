import { expect, test } from "bun:test";
import fc from "fast-check";
import { probeBytes, probeImage } from "../../../src/devices/images/probe.ts";

const bytes = (text: string) => Uint8Array.from(text, (char) => char.charCodeAt(0));
const padded = (text: string) => {
  const sector = new Uint8Array(512).fill(0x5a);
  sector.set(bytes(text));
  return sector;
};

// docs/interop/qcow2.rst; Virtual Hard Disk Image Format Specification; [MS-VHDX] 2.2.1; VMware Virtual Disk Format
// 5.0; VDICore.h; docs/interop/qed_spec.rst; cryptsetup, on-disk-format
test.each([
  ["QFI\xfb\0\0\0\x02", "qcow2"],
  ["QFI\xfb\0\0\0\x03", "qcow2"],
  ["QFI\xfb\0\0\0\x01", "qcow"],
  ["conectix\0\0\0\x02", "vhd"],
  ["vhdxfile", "vhdx"],
  ["KDMV\x01\0\0\0", "vmdk"],
  ["COWD\x01\0\0\0", "vmdk"],
  ["# Disk DescriptorFile\nversion=1\n", "vmdk"],
  [`${"<<< Oracle VM VirtualBox Disk Image >>>\n".padEnd(64, "\0")}\x7f\x10\xda\xbe`, "vdi"],
  ["QED\0", "qed"],
  ["LUKS\xba\xbe\0\x01", "luks"],
  ["\xeb\x63\x90", "raw"],
  ["QFI", "raw"],
] as const)("%p is %s", (start, format) => {
  expect(probeImage(padded(start))).toBe(format);
  expect(probeImage(bytes(start))).toBe(format); // an image of that many bytes
});

test("bytes that begin like no format are raw, however many there are", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: probeBytes }), (found) => {
      const first = String.fromCharCode(...found.subarray(0, 2));
      fc.pre(!["QF", "co", "vh", "KD", "CO", "# ", "QE", "LU"].includes(first));
      fc.pre(found[64] !== 0x7f);
      expect(probeImage(found)).toBe("raw");
    }),
  );
});
