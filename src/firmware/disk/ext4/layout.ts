/**
 * ext2, ext3 and ext4 on disk (Documentation/filesystems/ext4, and ext2_fs.h of e2fsprogs): the parts that reading
 * needs.
 */
import { bytes, struct, u8, u16, u32 } from "../../../ffi/struct.ts";

/** The superblock lies this far into the file system. */
export const superblockAt = 1024;
export const ext4Magic = 0xef53;
/** Of every block of the journal that is the journal's own (JBD2). */
export const journalMagic = 0xc03b_3998;

export const Superblock = struct("ext4_super_block", 1024, {
  s_inodes_count: u32,
  s_blocks_count_lo: u32,
  unused1: bytes(12),
  s_first_data_block: u32,
  s_log_block_size: u32,
  s_log_cluster_size: u32,
  s_blocks_per_group: u32,
  s_clusters_per_group: u32,
  s_inodes_per_group: u32,
  unused2: bytes(12),
  s_magic: u16,
  s_state: u16,
  unused3: bytes(16),
  s_rev_level: u32,
  unused4: bytes(4),
  s_first_ino: u32,
  s_inode_size: u16,
  s_block_group_nr: u16,
  s_feature_compat: u32,
  s_feature_incompat: u32,
  s_feature_ro_compat: u32,
  s_uuid: bytes(16),
  s_volume_name: bytes(16),
  unused5: bytes(72),
  s_journal_uuid: bytes(16),
  s_journal_inum: u32,
  s_journal_dev: u32,
  s_last_orphan: u32,
  unused6: bytes(17),
  s_jnl_backup_type: u8,
  s_desc_size: u16,
  s_default_mount_opts: u32,
  s_first_meta_bg: u32,
  unused7: bytes(72),
  s_blocks_count_hi: u32,
  unused8: bytes(248),
  s_backup_bgs0: u32,
  s_backup_bgs1: u32,
  unused9: bytes(428),
});

export const Compat = { SPARSE_SUPER2: 0x200 } as const;
export const RoCompat = { SPARSE_SUPER: 0x1 } as const;
export const Incompat = {
  FILETYPE: 0x2,
  RECOVER: 0x4,
  META_BG: 0x10,
  EXTENTS: 0x40,
  "64BIT": 0x80,
  MMP: 0x100,
  FLEX_BG: 0x200,
  EA_INODE: 0x400,
  CSUM_SEED: 0x2000,
  LARGEDIR: 0x4000,
  INLINE_DATA: 0x8000,
  ENCRYPT: 0x10000,
  CASEFOLD: 0x20000,
} as const;
/** What is not read, by its name. */
export const refusedIncompat: Readonly<Record<number, string>> = {
  1: "compression",
  8: "journal_dev",
  4096: "dirdata",
};

/** One inode's fixed part. */
export const Inode = struct("ext4_inode", 128, {
  i_mode: u16,
  i_uid: u16,
  i_size_lo: u32,
  unused1: bytes(24),
  i_flags: u32,
  i_osd1: u32,
  i_block: bytes(60),
  i_generation: u32,
  i_file_acl_lo: u32,
  i_size_high: u32,
  unused2: bytes(16),
});

export const InodeFlag = { ENCRYPT: 0x800, EXTENTS: 0x8_0000, INLINE_DATA: 0x1000_0000 } as const;
/** The type in `i_mode` (linux/stat.h). */
export const Mode = { mask: 0xf000, directory: 0x4000, file: 0x8000, link: 0xa000 } as const;
export const rootInode = 2;

export const ExtentHeader = struct("ext4_extent_header", 12, {
  eh_magic: u16,
  eh_entries: u16,
  eh_max: u16,
  eh_depth: u16,
  eh_generation: u32,
});
export const extentMagic = 0xf30a;
export const extentBytes = 12;
/** An extent of more blocks than this is allocated and not written: it reads as zeros, and is that much shorter. */
export const extentWritten = 32768;
