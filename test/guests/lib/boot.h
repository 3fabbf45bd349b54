/*
 * What the loader handed over: the command line and the memory map of hvm_start_info
 * (Xen, xen/include/public/arch-x86/hvm/start_info.h, version 1).
 */
#ifndef BOOT_H
#define BOOT_H
#include "io.h"

struct start_info {
	u32 magic; /* START_MAGIC */
	u32 version, flags, nr_modules;
	u64 modlist_paddr, cmdline_paddr, rsdp_paddr;
	u64 memmap_paddr; /* from version 1 */
	u32 memmap_entries, reserved;
};
#define START_MAGIC 0x336ec578

struct memory_range {
	u64 start, length;
	u32 type, reserved; /* type as in e820: 1 is RAM */
};

extern const struct start_info *start_info;

/*
 * The value of `name=value` on the command line, up to the next blank, or 0. The next call reuses
 * the buffer.
 */
const char *argument(const char *name);
u64 argument_number(const char *name, u64 otherwise); /* decimal */
int argument_is(const char *name, const char *value);
/* Whether `word` is one of the comma-separated words of `list`. */
int listed(const char *list, const char *word);
int same(const char *a, const char *b);

/*
 * The 2 MiB page that holds `physical`, mapped in a window of its own: any address of RAM can be
 * touched.
 */
u8 *map_window(u64 physical);

/* The program. Returning from it powers off. */
void guest_main(void);

#endif
