/* ACPI and SMBIOS tables in memory, as a firmware reads them. */
#ifndef TABLES_H
#define TABLES_H
#include "../lib/test.h"

/* The sum of `length` bytes, modulo 256: 0 for a table that is whole. */
u8 sum_of(const void *at, u64 length);
int starts_with(const void *at, const char *text);

#endif
