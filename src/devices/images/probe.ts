/**
 * Which format an image has, by the magic numbers of its first bytes. A fixed VHD has none at its start and passes for
 * raw, which it is but for its last sector.
 */

export type ImageFormat =
  | "raw"
  | "qcow"
  | "qcow2"
  | "vhd"
  | "vhdx"
  | "vmdk"
  | "vdi"
  | "qed"
  | "luks";

/** Bytes of an image that `probeImage` looks at. */
export const probeBytes = 512;

/** Offset and bytes of each magic number, as its specification gives them. */
const magics: readonly (readonly [ImageFormat, number, string])[] = [
  ["qcow2", 0, "QFI\xfb"],
  ["vhd", 0, "conectix"],
  ["vhdx", 0, "vhdxfile"],
  ["vmdk", 0, "KDMV"],
  ["vmdk", 0, "COWD"],
  ["vmdk", 0, "# Disk DescriptorFile"],
  ["vdi", 64, "\x7f\x10\xda\xbe"],
  ["qed", 0, "QED\0"],
  ["luks", 0, "LUKS\xba\xbe"],
];

/** How the formats are called. */
export const formatNames: Record<ImageFormat, string> = {
  raw: "raw",
  qcow: "qcow (version 1)",
  qcow2: "qcow2",
  vhd: "VHD",
  vhdx: "VHDX",
  vmdk: "VMDK",
  vdi: "VDI",
  qed: "QED",
  luks: "LUKS",
};

/** The format of an image that begins with `bytes`; fewer than `probeBytes` are the whole image. */
export function probeImage(bytes: Uint8Array): ImageFormat {
  for (const [format, at, magic] of magics) {
    const found = String.fromCharCode(...bytes.subarray(at, at + magic.length));
    if (found !== magic) continue;
    return format === "qcow2" && isFirstVersion(bytes) ? "qcow" : format;
  }
  return "raw";
}

const isFirstVersion = (bytes: Uint8Array) =>
  bytes[4] === 0 && bytes[5] === 0 && bytes[6] === 0 && bytes[7] === 1;
