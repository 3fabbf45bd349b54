/**
 * `debug-port`, a program of the guests: writes each byte of its standard input to I/O port 0x80,
 * which chv reads as a debug-port code. Distribution kernels have no /dev/port, so it asks for the
 * port with ioperm(2). It is an ELF executable put together by hand: no compiler is needed.
 */

// Instructions as the AMD64 manual, volume 3, encodes them; system call numbers of x86-64.
const code = [
  "bf 80000000", //     mov edi, 0x80         ; ioperm(0x80, 1, 1)
  "be 01000000", //     mov esi, 1
  "ba 01000000", //     mov edx, 1
  "b8 ad000000", //     mov eax, 173
  "0f 05", //           syscall
  "85 c0", //           test eax, eax
  "75 1b", //           jnz fail
  "6a 00", //           push 0                ; one byte of room
  "31 ff", //     next: xor edi, edi          ; read(0, rsp, 1)
  "48 89 e6", //        mov rsi, rsp
  "31 c0", //           xor eax, eax          ; edx is still 1
  "0f 05", //           syscall
  "83 f8 01", //        cmp eax, 1
  "75 07", //           jne done
  "8a 04 24", //        mov al, [rsp]
  "e6 80", //           out 0x80, al
  "eb eb", //           jmp next
  "31 ff", //     done: xor edi, edi          ; exit(0)
  "eb 05", //           jmp exit
  "bf 01000000", // fail: mov edi, 1          ; exit(1)
  "b8 3c000000", // exit: mov eax, 60
  "0f 05", //           syscall
];

const base = 0x400000;
const headers = 64 + 56;

/** The executable: an ELF header, one program header that maps the whole file, the code. */
export function debugPortProgram(): Uint8Array {
  const text = Buffer.from(code.join("").replaceAll(" ", ""), "hex");
  const file = Buffer.alloc(headers + text.length);
  file.write("\x7fELF", "latin1");
  file.set([2, 1, 1], 4); //                            64 bits, little-endian, version 1
  file.writeUInt16LE(2, 16); //                         e_type: ET_EXEC
  file.writeUInt16LE(62, 18); //                        e_machine: EM_X86_64
  file.writeUInt32LE(1, 20); //                         e_version
  file.writeBigUInt64LE(BigInt(base + headers), 24); // e_entry
  file.writeBigUInt64LE(64n, 32); //                    e_phoff
  file.writeUInt16LE(64, 52); //                        e_ehsize
  file.writeUInt16LE(56, 54); //                        e_phentsize
  file.writeUInt16LE(1, 56); //                         e_phnum
  file.writeUInt32LE(1, 64); //                         p_type: PT_LOAD
  file.writeUInt32LE(5, 68); //                         p_flags: read and execute
  file.writeBigUInt64LE(BigInt(base), 80); //           p_vaddr
  file.writeBigUInt64LE(BigInt(base), 88); //           p_paddr
  file.writeBigUInt64LE(BigInt(file.length), 96); //    p_filesz
  file.writeBigUInt64LE(BigInt(file.length), 104); //   p_memsz
  file.writeBigUInt64LE(0x1000n, 112); //               p_align
  file.set(text, headers);
  return file;
}
