/**
 * An archive in the "new ASCII" cpio format that Linux unpacks as an initramfs
 * (Documentation/driver-api/early-userspace/buffer-format.rst): no root is needed to put device
 * nodes in it, and the same files always give the same bytes.
 */

/** One entry. Folders above it need entries of their own, before it. */
export type CpioEntry =
  | { readonly path: string; readonly kind: "folder" }
  | {
      readonly path: string;
      readonly kind: "file";
      readonly data: Uint8Array;
      readonly mode: number;
    }
  | { readonly path: string; readonly kind: "link"; readonly target: string }
  | {
      readonly path: string;
      readonly kind: "character device";
      readonly major: number;
      readonly minor: number;
      readonly mode: number;
    };

// File types of st_mode, inode(7).
const S_IFLNK = 0o120000;
const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const S_IFCHR = 0o020000;

/** The whole archive, trailer included. Paths are relative to the root of the file system. */
export function cpio(entries: readonly CpioEntry[]): Buffer<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  entries.forEach((entry, index) => {
    const inode = index + 1;
    switch (entry.kind) {
      case "folder":
        append(parts, { inode, mode: S_IFDIR | 0o755, path: entry.path });
        break;
      case "file":
        append(parts, { inode, mode: S_IFREG | entry.mode, path: entry.path, data: entry.data });
        break;
      case "link":
        append(parts, {
          inode,
          mode: S_IFLNK | 0o777,
          path: entry.path,
          data: Buffer.from(entry.target),
        });
        break;
      case "character device":
        append(parts, {
          inode,
          mode: S_IFCHR | entry.mode,
          path: entry.path,
          device: [entry.major, entry.minor],
        });
        break;
    }
  });
  append(parts, { inode: 0, mode: 0, path: "TRAILER!!!" });
  return Buffer.concat(parts);
}

interface Member {
  readonly inode: number;
  readonly mode: number;
  readonly path: string;
  readonly data?: Uint8Array;
  readonly device?: readonly [major: number, minor: number];
}

/** Header, NUL-terminated name and data, name and data each padded to four bytes. */
function append(parts: Uint8Array[], member: Member): void {
  const name = Buffer.from(`${member.path}\0`);
  const data = member.data ?? new Uint8Array(0);
  const [major, minor] = member.device ?? [0, 0];
  const fields = [
    member.inode,
    member.mode,
    0, // uid
    0, // gid
    1, // nlink
    0, // mtime
    data.byteLength,
    0, // major and minor of the device that holds the file
    0,
    major,
    minor,
    name.byteLength,
    0, // checksum, unused by "070701"
  ];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
  parts.push(Buffer.from(header), name, padding(header.length + name.byteLength));
  parts.push(data, padding(data.byteLength));
}

function padding(length: number): Uint8Array {
  return new Uint8Array(-length & 3);
}
