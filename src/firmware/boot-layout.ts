/**
 * Where the loaders put their tables: conventional memory from 0x500, above the real-mode vectors
 * and the BIOS data area, up to 0x30000. Linux copies or leaves all of it before it hands out
 * memory below 1 MiB.
 */
export const BootLayout = {
  start: 0x500,
  gdt: 0x500,
  /** Not in the first page: a firmware may clear that before it has read all it was told. */
  startInfo: 0x6000,
  moduleList: 0x6080,
  bootParams: 0x7000,
  /**
   * The first vCPU's stack grows down from here; 64-bit kernels bring their own, small guests may
   * not.
   */
  stackTop: 0x8ff0,
  pageTables: 0x9000,
  pageTablesEnd: 0xf000,
  /** More than 128 e820 entries, or the memory map of a PVH guest. */
  memoryMap: 0x1_0000,
  memoryMapEnd: 0x2_0000,
  commandLine: 0x2_0000,
  commandLineEnd: 0x3_0000,
  end: 0x3_0000,
} as const;
