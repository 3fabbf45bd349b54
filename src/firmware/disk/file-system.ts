/** A file system that can be read: what the boot loader needs of it. Paths are absolute, links are followed. */
export interface FileSystem {
  /** "ext4", "vfat". */
  readonly type: string;
  readonly label: string;
  /** As `blkid` and GRUB's `search --fs-uuid` spell it. */
  readonly uuid: string;
  /** The whole file; undefined when there is none. Throws DiskError when it is longer than `limit` or unreadable. */
  readFile(path: string, limit: number): Uint8Array | undefined;
  /** What a path leads to; undefined when there is none. */
  stat(path: string): { readonly folder: boolean; readonly size: number } | undefined;
  /** Names in a folder, without `.` and `..`; undefined when there is no such folder. */
  list(path: string): string[] | undefined;
}
