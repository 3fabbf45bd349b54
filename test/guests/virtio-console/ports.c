/* A console device with several ports: the control queues (section 5.3.6.2). */
#include "console.h"
#include "../lib/boot.h"

enum { DEVICE_READY = 0, PORT_ADD = 1, PORT_READY = 3, CONSOLE_PORT = 4, PORT_OPEN = 6, PORT_NAME = 7 };
enum { CONTROL_IN = 2, CONTROL_OUT = 3 };

struct control {
	u32 id;
	u16 event, value;
};

#define ROOMS 16
#define NAME_MOST 64
static struct {
	struct control message;
	char name[NAME_MOST];
} rooms[ROOMS];
static u32 room_of[QUEUE_MOST];

/* What the device has said of each port. */
static struct {
	int added, is_console, open, closed;
	char name[NAME_MOST];
} ports[PORTS_MOST];

static void tell(u32 id, u16 event, u16 value)
{
	static struct control message;
	message = (struct control){ id, event, value };
	struct buffer out = { &message, sizeof(message) };
	expect("told", virtqueue_exchange(&queues[CONTROL_OUT], &out, 1, 0, 0), 0);
}

static void offer(u32 i)
{
	struct buffer in = { &rooms[i], sizeof(rooms[i]) };
	room_of[virtqueue_add(&queues[CONTROL_IN], 0, 0, &in, 1)] = i;
	virtqueue_kick(&queues[CONTROL_IN]);
}

int hear(void)
{
	u32 length = 0;
	int head = virtqueue_take(&queues[CONTROL_IN], &length);
	if (head < 0)
		return 0;
	u32 i = room_of[head];
	u32 id = rooms[i].message.id;
	u16 event = rooms[i].message.event, value = rooms[i].message.value;
	expect("a port that may be", id < PORTS_MOST, 1);
	if (id >= PORTS_MOST)
		return 1;
	if (event == PORT_ADD) {
		ports[id].added++;
	} else if (event == CONSOLE_PORT) {
		ports[id].is_console = value;
	} else if (event == PORT_OPEN) {
		ports[id].open = value;
		ports[id].closed += !value;
	} else if (event == PORT_NAME) {
		u32 name = length - sizeof(struct control);
		for (u32 c = 0; c < name && c < NAME_MOST - 1; c++)
			ports[id].name[c] = rooms[i].name[c];
		ports[id].name[name < NAME_MOST ? name : NAME_MOST - 1] = 0;
	} else {
		expect("an event", event, PORT_ADD);
	}
	offer(i);
	return 1;
}

#define HEAR_UNTIL(condition) WAIT((hear(), (condition)))

u32 greet(void)
{
	u32 queue_count = 4;
	if (!virtio_find(&console, VIRTIO_CONSOLE, argument_number("nth", 0))) {
		expect("a device", 0, 1);
		return 0;
	}
	u32 count = read32(console.config + CONSOLE_PORTS);
	expect("ports", count <= PORTS_MOST, 1);
	queue_count = 2 + 2 * count;
	if (failing() || !console_start(VIRTIO_ANY, queue_count))
		return 0;
	expect("offers several ports", console.offered & CONSOLE_F_MULTIPORT, CONSOLE_F_MULTIPORT);
	for (u32 i = 0; i < PORTS_MOST; i++) {
		ports[i].added = ports[i].is_console = ports[i].open = ports[i].closed = 0;
		ports[i].name[0] = 0;
	}
	for (u32 i = 0; i < ROOMS; i++)
		offer(i);
	tell(~0u, DEVICE_READY, 1);
	for (u32 i = 0; i < count && !failing(); i++) {
		expect("added", HEAR_UNTIL(ports[i].added), 1);
		tell(i, PORT_READY, 1);
		expect("named", HEAR_UNTIL(ports[i].name[0]), 1);
		tell(i, PORT_OPEN, 1);
	}
	return failing() ? 0 : count;
}

int times_closed(u32 port)
{
	return ports[port].closed;
}

/* Names the ports for the host, and sends back on each what comes in, `bytes` a port. */
TEST(names, "ports-echo")
{
	u32 count = greet();
	for (u32 i = 0; i < count; i++) {
		expect("open", HEAR_UNTIL(ports[i].open), 1);
		print("note port%u %s%s\n", (u64)i, ports[i].name, ports[i].is_console ? " console" : "");
	}
	print("note ports %u\n", (u64)count);
	for (u32 i = 0; i < count; i++)
		echo(i, argument_number("bytes", 0));
	console_stop();
}

/* The first port's client comes and goes. */
TEST(clients, "ports-clients")
{
	if (!greet())
		return;
	print("note waiting yes\n");
	expect("a client", HEAR_UNTIL(ports[0].open), 1);
	say(0, "hello\n", 6);
	expect("has gone", HEAR_UNTIL(ports[0].closed), 1);
	expect("another", HEAR_UNTIL(ports[0].open), 1);
	say(0, "again\n", 6);
	console_stop();
}

/* The guest ends at once, with output on its way that nobody has taken. */
TEST(last_words, "ports-last-words")
{
	if (!greet())
		return;
	pour(0, argument_number("bytes", 0), 0);
}

/* Nonsense in the control queue costs nothing; a buffer too small for an answer costs the device. */
TEST(hostile, "ports-hostile")
{
	if (!greet())
		return;
	for (u32 i = 0; i < 300; i++)
		tell(i * 0x1000003, i * 7, i);
	while (hear())
		;
	static struct control small;
	struct buffer in = { &small, sizeof(small) };
	expect("still well", virtio_status(&console), VIRTIO_LIVE);
	console_stop();
	expect("starts again", virtio_start(&console, VIRTIO_ANY, queues, 4, 32), 1);
	virtqueue_add(&queues[CONTROL_IN], 0, 0, &in, 1);
	virtqueue_kick(&queues[CONTROL_IN]);
	tell(0, PORT_READY, 1);
	expect("needs a reset", WAIT(virtio_status(&console) & VIRTIO_NEEDS_RESET), 1);
	expect("works after it", greet() > 0, 1);
	console_stop();
}
