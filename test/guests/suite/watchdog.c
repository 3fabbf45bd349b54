/* The watchdog, at the ports and by the accesses that the WDAT gives. */
#include "../lib/test.h"

#define COUNT 0x610
#define LEFT 0x614
#define RUNNING 0x618
#define RESTART 0x619
#define STATUS 0x61a

/* It fires: the guest starts over, and finds it standing still and the reason in its status. */
TEST(fires, "watchdog-fires")
{
	expect("stands still", inb(RUNNING), 0);
	if (inb(STATUS)) {
		outb(STATUS, 0);
		expect("status cleared", inb(STATUS), 0);
		return;
	}
	print("first boot\n");
	outl(COUNT, 1);
	outb(RUNNING, 1);
	WAIT(0);
	expect("a reset", 0, 1);
}

TEST(runs, "watchdog-registers")
{
	outl(COUNT, 36000);
	expect("count", inl(COUNT), 36000);
	outb(RUNNING, 1);
	expect("runs", inb(RUNNING), 1);
	expect("counts down", WAIT(inl(LEFT) < 36000), 1);
	u32 left;
	u64 start;
	do {
		start = rdtsc();
		outb(RESTART, 1);
		left = inl(LEFT);
	} while (rdtsc() - start >= MOMENT); /* a host that was busy meanwhile let it run down */
	expect("from the start again", left > 35990, 1);
	outb(RUNNING, 0);
	expect("stands still", inb(RUNNING), 0);
}

/* Says that it runs, with an hour to go, and waits to be looked at. */
TEST(held, "watchdog-held")
{
	outl(COUNT, 36000);
	outb(RUNNING, 1);
	print("running\n");
	WAIT(!inb(RUNNING));
}
