/**
 * The structures of the Linux/x86 boot protocol: Linux Documentation/arch/x86/boot.rst and
 * zero-page.rst, laid out as in asm/bootparam.h. Field names are the header's. What no loader of
 * ours touches is left out of the layouts' fields as padding; the offsets of the rest are the
 * header's.
 */
import { addr, bytes, nested, struct, u8, u16, u32 } from "../ffi/struct.ts";

export const SetupHeader = struct(
  "setup_header",
  123,
  {
    setup_sects: u8,
    root_flags: u16,
    syssize: u32,
    ram_size: u16,
    vid_mode: u16,
    root_dev: u16,
    boot_flag: u16,
    jump: u16,
    header: u32,
    version: u16,
    realmode_swtch: u32,
    start_sys_seg: u16,
    kernel_version: u16,
    type_of_loader: u8,
    loadflags: u8,
    setup_move_size: u16,
    code32_start: u32,
    ramdisk_image: u32,
    ramdisk_size: u32,
    bootsect_kludge: u32,
    heap_end_ptr: u16,
    ext_loader_ver: u8,
    ext_loader_type: u8,
    cmd_line_ptr: u32,
    initrd_addr_max: u32,
    kernel_alignment: u32,
    relocatable_kernel: u8,
    min_alignment: u8,
    xloadflags: u16,
    cmdline_size: u32,
    hardware_subarch: u32,
    hardware_subarch_data: addr,
    payload_offset: u32,
    payload_length: u32,
    setup_data: addr,
    pref_address: addr,
    init_size: u32,
    handover_offset: u32,
    kernel_info_offset: u32,
  },
  { packed: true },
);

/** Where the header lies, in the file and in boot_params alike. */
export const setupHeaderOffset = 0x1f1;
/** The header may grow up to here (boot_params' edd_mbr_sig_buffer). */
export const setupHeaderLimit = 0x290;

/** Values of `boot_flag` and `header`: the boot sector's signature, and "HdrS". */
export const bootFlag = 0xaa55;
export const headerMagic = 0x5372_6448;

export const LoadFlags = { loadedHigh: 1 << 0, kaslr: 1 << 1, canUseHeap: 1 << 7 } as const;
export const XLoadFlags = { kernel64: 1 << 0, above4G: 1 << 1 } as const;

/** `type_of_loader` of a loader without an id of its own. */
export const undefinedLoader = 0xff;

export const BootParams = struct(
  "boot_params",
  4096,
  {
    screen_and_apm: bytes(0x70),
    acpi_rsdp_addr: addr,
    pad3: bytes(0x48),
    ext_ramdisk_image: u32,
    ext_ramdisk_size: u32,
    ext_cmd_line_ptr: u32,
    pad4: bytes(0x11c),
    e820_entries: u8,
    pad5: bytes(0x8),
    hdr: nested(SetupHeader),
    pad7: bytes(0x24 + 0x40),
    /** 128 entries of `BootE820Entry`. */
    e820_table: bytes(128 * 20),
    pad8: bytes(0x330),
  },
  { packed: true },
);

export const BootE820Entry = struct(
  "boot_e820_entry",
  20,
  { addr: addr, size: addr, type: u32 },
  { packed: true },
);

/** The most entries that fit in boot_params; the rest goes through setup_data. */
export const e820MaxEntriesZeropage = 128;

/** A node of the list that `setup_data` starts; its `len` bytes of data follow. */
export const SetupData = struct("setup_data", 16, { next: addr, type: u32, len: u32 });
export const SETUP_E820_EXT = 1;
