/**
 * The ELF inside a bzImage: `bun test/lab/vmlinux.ts BZIMAGE OUT`.
 *
 * Linux Documentation/arch/x86/boot.rst: setup_sects at 0x1f1, "HdrS" at 0x202, payload_offset and
 * payload_length at 0x248 and 0x24c (protocol 2.08 and later). The payload ends with four bytes of
 * size, which the decompressors' tools complain about, so their exit status is not looked at.
 */

import { readFileSync, renameSync, writeFileSync } from "node:fs";

/** Magic numbers of the compressed formats, as hexadecimal, and the tool that unpacks each. */
const tools: Record<string, string> = {
  "28b52ffd": "zstd",
  "02214c18": "lz4",
  fd377a58: "xz",
  "1f8b0800": "gzip",
};

/** The ELF of a bzImage's bytes; throws one line that says what is wrong with them. */
export async function extractVmlinux(image: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  if (image.byteLength < 0x260) throw new Error("too short for a bzImage");
  const header = new DataView(image.buffer, image.byteOffset, image.byteLength);
  if (header.getUint32(0x202, true) !== 0x53726448) throw new Error("no HdrS: not a bzImage");
  const start = ((image[0x1f1] || 4) + 1) * 512 + header.getUint32(0x248, true);
  const end = start + header.getUint32(0x24c, true);
  if (end > image.byteLength) throw new Error("the payload ends beyond the file");
  const payload = image.subarray(start, end);
  const tool = tools[Buffer.from(payload.subarray(0, 4)).toString("hex")];
  if (!tool) throw new Error("the payload's compression is none of zstd, lz4, xz, gzip");
  const child = Bun.spawn([tool, "-dc"], { stdin: new Blob([payload]), stderr: "ignore" });
  const elf = await child.stdout.bytes();
  if (Buffer.from(elf.subarray(0, 4)).toString("latin1") !== "\x7fELF") {
    throw new Error(`no ELF inside the ${tool} payload`);
  }
  return elf;
}

if (import.meta.main) {
  const [from, to] = process.argv.slice(2);
  if (!from || !to) throw new Error("vmlinux.ts BZIMAGE OUT");
  try {
    writeFileSync(`${to}.new`, await extractVmlinux(Uint8Array.from(readFileSync(from))));
    renameSync(`${to}.new`, to);
  } catch (error) {
    console.error(`${from}: ${error instanceof Error ? error.message : error}`);
    process.exit(1);
  }
}
