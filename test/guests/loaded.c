/* Says what it was loaded with: its command line, and the text that its initramfs is. */
#include "lib/boot.h"
#include "lib/print.h"

struct module {
	u64 paddr, size, cmdline_paddr, reserved;
};

void guest_main(void)
{
	const char *command_line = (const char *)start_info->cmdline_paddr;
	print("cmdline %s\n", command_line ? command_line : "");
	if (start_info->nr_modules > 0) {
		const struct module *first = (const struct module *)start_info->modlist_paddr;
		char text[64];
		u64 length = first->size < sizeof(text) - 1 ? first->size : sizeof(text) - 1;
		for (u64 i = 0; i < length; i++)
			text[i] = ((const char *)first->paddr)[i];
		text[length] = 0;
		print("initramfs %s\n", text);
	}
	print("done\n");
}
