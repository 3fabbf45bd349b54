/** PE files (Microsoft PE/COFF specification), as far as a unified kernel image needs them: named sections. */
import { DiskError, viewOf } from "./medium.ts";

const sectionBytes = 40;
const sectionsMax = 96;

/** The sections by name; undefined when the file is no PE. The first of a name counts. Throws DiskError when broken. */
export function peSections(file: Uint8Array): ReadonlyMap<string, Uint8Array> | undefined {
  if (file.length < 64 || file[0] !== 0x4d || file[1] !== 0x5a) return undefined;
  const view = viewOf(file);
  const header = view.getUint32(0x3c, true);
  if (header + 24 > file.length || view.getUint32(header, true) !== 0x4550) return undefined;
  const count = view.getUint16(header + 6, true);
  const table = header + 24 + view.getUint16(header + 20, true);
  if (count > sectionsMax || table + count * sectionBytes > file.length) {
    throw new DiskError(`a PE file with ${count} sections that it does not hold`);
  }
  const sections = new Map<string, Uint8Array>();
  for (let i = 0; i < count; i++) {
    const at = table + i * sectionBytes;
    const name = new TextDecoder("latin1").decode(file.subarray(at, at + 8)).replace(/\0.*/s, "");
    const virtual = view.getUint32(at + 8, true);
    const stored = view.getUint32(at + 16, true);
    const start = view.getUint32(at + 20, true);
    const length = virtual === 0 ? stored : Math.min(virtual, stored);
    if (start + length > file.length) throw new DiskError(`a PE file that ends within ${name}`);
    if (!sections.has(name)) sections.set(name, file.subarray(start, start + length));
  }
  return sections;
}
