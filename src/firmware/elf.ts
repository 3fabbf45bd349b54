/**
 * ELF executables as kernels: System V gABI 4.1 chapters 4 and 5, constants from linux/elf.h. Only
 * what a loader needs: PT_LOAD segments by physical address, the entry point, and the PVH note
 * (XEN_ELFNOTE_PHYS32_ENTRY, 18, of xen/include/public/elfnote.h). The file is hostile: whatever is
 * returned has been checked.
 */
import { times } from "../bus/times.ts";
import { addr, bytes, struct, u8, u16, u32 } from "../ffi/struct.ts";
import type { KernelFile } from "./file-reader.ts";
import { hex } from "./kernel-error.ts";

const identification = { magic: u32, class: u8, data: u8, elfVersion: u8, rest: bytes(9) };
const Elf64Ehdr = struct("Elf64_Ehdr", 64, {
  ...identification,
  e_type: u16,
  e_machine: u16,
  e_version: u32,
  e_entry: addr,
  e_phoff: addr,
  e_shoff: addr,
  e_flags: u32,
  e_ehsize: u16,
  e_phentsize: u16,
  e_phnum: u16,
  e_shentsize: u16,
  e_shnum: u16,
  e_shstrndx: u16,
});
const Elf32Ehdr = struct("Elf32_Ehdr", 52, {
  ...identification,
  e_type: u16,
  e_machine: u16,
  e_version: u32,
  e_entry: u32,
  e_phoff: u32,
  e_shoff: u32,
  e_flags: u32,
  e_ehsize: u16,
  e_phentsize: u16,
  e_phnum: u16,
  e_shentsize: u16,
  e_shnum: u16,
  e_shstrndx: u16,
});
const Elf64Phdr = struct("Elf64_Phdr", 56, {
  p_type: u32,
  p_flags: u32,
  p_offset: addr,
  p_vaddr: addr,
  p_paddr: addr,
  p_filesz: addr,
  p_memsz: addr,
  p_align: addr,
});
const Elf32Phdr = struct("Elf32_Phdr", 32, {
  p_type: u32,
  p_offset: u32,
  p_vaddr: u32,
  p_paddr: u32,
  p_filesz: u32,
  p_memsz: u32,
  p_flags: u32,
  p_align: u32,
});

const ELFDATA2LSB = 1;
const ET_EXEC = 2;
const ET_DYN = 3;
const machines: readonly number[] = [3, 62]; // EM_386, EM_X86_64
const PT_LOAD = 1;
const PT_NOTE = 4;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

/**
 * Linux has 5 program headers; more than this is no kernel, and would only make the checks slow.
 */
const maxProgramHeaders = 256;
/** All notes together, in bytes; Linux has 500. */
const maxNotes = 0x10_0000;
/** Physical addresses have at most 52 bits (Intel SDM volume 3A section 4.1.4). */
const addressLimit = 2 ** 52;

/**
 * A part of the file that belongs into memory: `fileSize` bytes at `offset`, zeros up to
 * `memorySize`.
 */
export interface Segment {
  readonly offset: number;
  /** Guest-physical. */
  readonly address: number;
  readonly fileSize: number;
  readonly memorySize: number;
}

export interface ElfImage {
  readonly bits: 32 | 64;
  /** Guest-physical, inside a segment unless `pvhEntry` is there and makes it irrelevant. */
  readonly entry: number;
  /** By address, without overlaps, none empty, at least one. */
  readonly segments: readonly Segment[];
  /** From the first byte of the first segment to the end of the last one. */
  readonly range: { readonly start: number; readonly end: number };
  /** Guest-physical entry of the PVH note. */
  readonly pvhEntry: number | undefined;
  /** Where the file's own parts end: what lies behind was appended. */
  readonly fileEnd: number;
}

interface ProgramHeader {
  readonly p_type: number;
  readonly p_offset: number;
  readonly p_paddr: number;
  readonly p_filesz: number;
  readonly p_memsz: number;
  readonly p_align: number;
}

const viewOf = (data: Uint8Array) => new DataView(data.buffer, data.byteOffset, data.byteLength);

/** Reads and checks the headers; a KernelError names what is wrong. */
export function parseElf(file: KernelFile): ElfImage {
  const ident = viewOf(file.read(0, 16, "the ELF identification"));
  const bits = { 1: 32 as const, 2: 64 as const }[ident.getUint8(4)];
  if (bits === undefined) return damaged(file, `its ELF class is ${ident.getUint8(4)}`);
  if (ident.getUint8(5) !== ELFDATA2LSB) return damaged(file, "it is not little-endian");
  const header =
    bits === 64
      ? new Elf64Ehdr(viewOf(file.read(0, Elf64Ehdr.size, "the ELF header")))
      : new Elf32Ehdr(viewOf(file.read(0, Elf32Ehdr.size, "the ELF header")));
  if (!machines.includes(header.e_machine)) {
    return file.refuse(
      `it is for another machine (ELF e_machine ${header.e_machine})`,
      "give a kernel built for x86-64",
    );
  }
  if (header.e_type !== ET_EXEC && header.e_type !== ET_DYN) {
    return file.refuse(
      `it is no executable (ELF e_type ${header.e_type})`,
      "give a linked kernel, such as vmlinux",
    );
  }
  const programHeaders = readProgramHeaders(file, header, bits);
  const segments = loadSegments(file, programHeaders);
  const range = { start: segments[0]!.address, end: endOf(segments[segments.length - 1]!) };
  const pvhEntry = findPvhEntry(file, programHeaders);
  const entry = pvhEntry ?? header.e_entry;
  if (!segments.some((s) => s.address <= entry && entry < endOf(s))) {
    damaged(file, `its entry point ${hex(entry)} lies in none of its segments`);
  }
  const sectionsEnd = header.e_shoff + header.e_shnum * header.e_shentsize;
  let fileEnd = Math.max(sectionsEnd, header.e_phoff + header.e_phnum * header.e_phentsize);
  for (const { p_offset, p_filesz } of programHeaders) {
    fileEnd = Math.max(fileEnd, p_offset + p_filesz);
  }
  return { bits, entry: header.e_entry, segments, range, pvhEntry, fileEnd };
}

const endOf = (segment: Segment): number => segment.address + segment.memorySize;

function damaged(file: KernelFile, why: string): never {
  return file.refuse(why, "the file is damaged or no kernel, give another one");
}

function readProgramHeaders(
  file: KernelFile,
  header: { e_phoff: number; e_phnum: number; e_phentsize: number },
  bits: 32 | 64,
): ProgramHeader[] {
  const { e_phoff, e_phnum, e_phentsize } = header;
  const type = bits === 64 ? Elf64Phdr : Elf32Phdr;
  if (e_phentsize !== type.size) {
    damaged(file, `its program headers have ${e_phentsize} bytes instead of ${type.size}`);
  }
  if (e_phnum === 0 || e_phnum > maxProgramHeaders) {
    damaged(file, `it has ${e_phnum} program headers, 1 to ${maxProgramHeaders} are accepted`);
  }
  const table = viewOf(file.read(e_phoff, e_phnum * type.size, "the program header table"));
  return times(e_phnum, (i) => new type(table, i * type.size));
}

/** The PT_LOAD entries, checked against the file, themselves and each other. */
function loadSegments(file: KernelFile, headers: readonly ProgramHeader[]): Segment[] {
  const segments: Segment[] = [];
  for (const header of headers) {
    if (header.p_type !== PT_LOAD || header.p_memsz === 0) continue;
    const { p_offset: offset, p_paddr: address, p_filesz: fileSize, p_memsz: memorySize } = header;
    if (fileSize > memorySize) {
      damaged(
        file,
        `the segment at ${hex(address)} has ${fileSize} bytes in the file, ` +
          `but only ${memorySize} in memory`,
      );
    }
    if (!(address + memorySize <= addressLimit)) {
      damaged(file, `the segment at ${hex(address)} ends beyond all physical memory`);
    }
    file.check(offset, fileSize, `the segment at ${hex(address)}`);
    segments.push({ offset, address, fileSize, memorySize });
  }
  if (segments.length === 0) damaged(file, "it has nothing to load (no PT_LOAD segment)");
  segments.sort((a, b) => a.address - b.address);
  for (let i = 1; i < segments.length; i++) {
    if (segments[i]!.address < endOf(segments[i - 1]!)) {
      damaged(file, `its segments overlap at ${hex(segments[i]!.address)}`);
    }
  }
  return segments;
}

/** The entry point of the first PVH note. */
function findPvhEntry(file: KernelFile, headers: readonly ProgramHeader[]): number | undefined {
  let total = 0;
  for (const { p_type, p_offset, p_filesz, p_align } of headers) {
    if (p_type !== PT_NOTE) continue;
    total += p_filesz;
    if (!(total <= maxNotes)) damaged(file, `its notes have more than ${maxNotes} bytes`);
    const notes = viewOf(file.read(p_offset, p_filesz, "a note segment"));
    const entry = scanNotes(file, notes, p_align === 8 ? 8 : 4);
    if (entry !== undefined) return entry;
  }
  return undefined;
}

/**
 * One note: namesz, descsz, type, each a word, then the name and the descriptor, each padded to
 * `align`.
 */
function scanNotes(file: KernelFile, notes: DataView, align: 4 | 8): number | undefined {
  const padded = (size: number) => Math.ceil(size / align) * align;
  for (let at = 0; at + 12 <= notes.byteLength; ) {
    const nameSize = notes.getUint32(at, true);
    const size = notes.getUint32(at + 4, true);
    const type = notes.getUint32(at + 8, true);
    const name = at + 12;
    const descriptor = at + padded(12 + nameSize);
    if (descriptor + size > notes.byteLength) {
      damaged(file, "one of its notes runs past the note segment");
    }
    const isXen = nameSize === 4 && notes.getUint32(name, true) === 0x006e_6558; // "Xen\0"
    if (isXen && type === XEN_ELFNOTE_PHYS32_ENTRY) {
      if (size !== 4 && size !== 8) damaged(file, `its PVH note has ${size} bytes, not 4 or 8`);
      if (size === 8 && notes.getUint32(descriptor + 4, true) !== 0) {
        damaged(file, "its PVH entry point lies above 4 GiB");
      }
      return notes.getUint32(descriptor, true);
    }
    at = descriptor + padded(size);
  }
  return undefined;
}
