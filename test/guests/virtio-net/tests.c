#include "net.h"
#include "../lib/boot.h"
#include "../lib/interrupts.h"

#define CTRL_RX 0
#define RX_PROMISC 0
#define CTRL_MAC 1
#define MAC_ADDR_SET 1
#define OK 0
#define ERR 1

TEST(identity, "net-identity")
{
	if (!net_start(BY_POLLING, NET_PLAIN, ROOM))
		return;
	for (u32 i = 0; i < 6; i++)
		expect("MAC", read8(net.config + i), own_mac[i]);
	expect("status: the link is up", read16(net.config + 6), 1);
	expect("queue pairs", read16(net.config + 8), argument_number("pairs", 1));
	expect("MTU", read16(net.config + 10), argument_number("mtu", 0));
	net_stop();
}

/* The host sends datagrams, and counts what comes back. */
static void echo(enum virtio_interrupts by, u64 features, u32 room)
{
	if (!net_start(by, features, room))
		return;
	if (by != BY_POLLING)
		interrupts_on();
	print("note ready 1\n");
	print("note echoed %u\n", (u64)station());
	interrupts_off();
	net_stop();
}

TEST(echo_polling, "net-echo")
{
	echo(BY_POLLING, NET_PLAIN, ROOM);
}

/* Frames of up to 1514 bytes come in many buffers. */
TEST(echo_merging, "net-echo-merging")
{
	echo(BY_POLLING, NET_MERGING, 100);
}

TEST(echo_msix, "net-echo-msix")
{
	echo(BY_MSIX, NET_MERGING, ROOM);
}

TEST(echo_pin, "net-echo-pin")
{
	echo(BY_PIN, NET_MERGING, ROOM);
}

TEST(control, "net-control")
{
	static const u8 off = 0, other[6] = { 2, 9, 9, 9, 9, 9 };
	if (!net_start(BY_POLLING, NET_PLAIN, ROOM))
		return;
	expect("PROMISC", net_command(CTRL_RX, RX_PROMISC, &off, 1), OK);
	expect("PROMISC without a value", net_command(CTRL_RX, RX_PROMISC, 0, 0), ERR);
	expect("MAC", net_command(CTRL_MAC, MAC_ADDR_SET, other, 6), OK);
	expect("a class that there is not", net_command(77, 0, &off, 1), ERR);
	for (u32 i = 0; i < 6; i++)
		expect("the other MAC", read8(net.config + i), other[i]);
	net_stop();
	for (u32 i = 0; i < 6; i++)
		expect("its own again", read8(net.config + i), own_mac[i]);
}

/* The device is taken back while the host sends without end; then the station works as ever. */
TEST(reset_load, "net-reset-load")
{
	static struct ether_frame frame;
	print("note flood 1\n");
	for (u32 round = 0; round < 10 && !failing(); round++) {
		if (!net_start(BY_POLLING, round & 1 ? NET_PLAIN : NET_MERGING, round & 2 ? ROOM : 1600))
			return;
		for (u32 i = 0; i < round; i++)
			if (net_receive(&frame))
				net_give(&frame);
		net_stop();
		u16 used = net_queues[RECEIVE].used.index;
		linger();
		expect("nothing moves", net_queues[RECEIVE].used.index, used);
	}
	print("note resets 1\n");
	echo(BY_POLLING, NET_PLAIN, ROOM);
}
