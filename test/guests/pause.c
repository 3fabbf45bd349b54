/*
 * Reads port 0x61 `count=N` times. Two of its bits change over with every read that the device serves: a read that
 * was served twice, or not at all, shows; so does one whose value did not reach the guest.
 */
#include "lib/boot.h"
#include "lib/io.h"
#include "lib/power.h"
#include "lib/print.h"

#define CHANGING 0x10

void guest_main(void)
{
	u64 count = argument_number("count", 10000);
	print("reading\n");
	u8 last = inb(0x61) & CHANGING;
	for (u64 i = 0; i < count; i++) {
		u8 now = inb(0x61) & CHANGING;
		if (now == last) {
			print("not ok: the same value twice\n");
			return;
		}
		last = now;
	}
	print("ok\n");
}
