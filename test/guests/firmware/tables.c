/* ACPI 6.5, chapter 5, and SMBIOS (DSP0134 3.3), where a firmware finds them and passes them on. */
#include "tables.h"

#define SMBIOS 0xf0000ul

u8 sum_of(const void *at, u64 length)
{
	u8 sum = 0;
	for (u64 i = 0; i < length; i++)
		sum += ((const u8 *)at)[i];
	return sum;
}

int starts_with(const void *at, const char *text)
{
	const char *bytes = at;
	while (*text && *bytes == *text)
		bytes++, text++;
	return !*text;
}

struct header {
	char signature[4];
	u32 length;
	u8 rest[28];
};

/* A generic address of `at`: system I/O, at this port. */
static void expect_port(const char *what, const u8 *at, u16 port)
{
	expect(what, at[0] << 16 | *(const u16 *)(at + 4), 1 << 16 | port);
}

static void look_at_fadt(const u8 *fadt)
{
	const struct header *dsdt = *(const struct header **)(fadt + 140);
	expect("DSDT", starts_with(dsdt, "DSDT"), 1);
	expect("the DSDT's sum", sum_of(dsdt, dsdt->length), 0);
	expect_port("X_PM_TMR_BLK", fadt + 208, 0x608);
	expect_port("SLEEP_CONTROL_REG", fadt + 244, 0x600);
}

TEST(acpi, "acpi")
{
	const u8 *rsdp = (const u8 *)start_info->rsdp_paddr;
	expect("RSDP", starts_with(rsdp, "RSD PTR "), 1);
	expect("its revision", rsdp[15], 2);
	expect("its sum", sum_of(rsdp, 20), 0);
	expect("its extended sum", sum_of(rsdp, *(const u32 *)(rsdp + 20)), 0);

	const struct header *xsdt = *(const struct header **)(rsdp + 24);
	expect("XSDT", starts_with(xsdt, "XSDT"), 1);
	expect("its sum", sum_of(xsdt, xsdt->length), 0);
	u32 count = (xsdt->length - sizeof(*xsdt)) / 8, fadts = 0, madts = 0, mcfgs = 0;
	for (u32 i = 0; i < count; i++) {
		const struct header *table = ((const struct header **)(xsdt + 1))[i];
		expect("a table's sum", sum_of(table, table->length), 0);
		fadts += starts_with(table, "FACP");
		madts += starts_with(table, "APIC");
		mcfgs += starts_with(table, "MCFG");
		if (starts_with(table, "FACP"))
			look_at_fadt((const u8 *)table);
	}
	expect("FADT, MADT, MCFG", fadts << 8 | madts << 4 | mcfgs, 0x111);
}

/* The nth string behind a structure, from 1. */
static const char *string_of(const u8 *structure, u32 number)
{
	const char *text = (const char *)structure + structure[1];
	while (--number)
		while (*text++)
			;
	return text;
}

static const u8 *next_structure(const u8 *structure)
{
	const u8 *at = structure + structure[1];
	while (at[0] || at[1])
		at++;
	return at + 2;
}

TEST(smbios, "smbios")
{
	const u8 *entry = (const u8 *)SMBIOS;
	expect("anchor", starts_with(entry, "_SM3_"), 1);
	expect("its length", entry[6], 24);
	expect("its sum", sum_of(entry, 24), 0);
	const u8 *structure = *(const u8 **)(entry + 16), *end = structure + *(const u32 *)(entry + 12);
	u32 types = 0;
	for (; structure < end; structure = next_structure(structure)) {
		types |= structure[0] < 31 ? 1u << structure[0] : 0;
		if (structure[0] == 1) {
			print("note serial %s\n", string_of(structure, structure[7]));
			print("note uuid-start %x\n", *(const u32 *)(structure + 8));
		}
		if (structure[0] == 11)
			print("note oem %s\n", string_of(structure, 1));
		if (structure[0] == 127)
			types |= 1u << 31;
	}
	expect("types 0, 1, 11, 127", types, 1u << 31 | 1u << 11 | 3);
	expect("no byte is left over", (u64)structure, (u64)end);
}
