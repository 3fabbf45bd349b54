/** The first four bytes of an ELF file, "\x7fELF", as a little-endian number: System V gABI, "ELF Identification". */
export const elfMagic = 0x464c_457f;
