/* The smallest guest: says hello, echoes the command line, powers off. */
#include "lib/boot.h"
#include "lib/print.h"

void guest_main(void)
{
	print("hello\n");
	const char *command_line = (const char *)start_info->cmdline_paddr;
	print("cmdline %s\n", command_line ? command_line : "");
	print("done\n");
}
