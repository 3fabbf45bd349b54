/*
 * A guest of `chv run`: what its runner says, without Linux. The command's words choose what happens:
 *
 *	status N		ends with status N
 *	both			"out\n" and "err\n", each on its own port
 *	cat			what comes in goes out, to the end of the input
 *	pour BYTES		so many bytes of output
 *	flood BYTES		the same, quickly; in pieces of 32 KiB
 *	drain			says how many bytes came in, to the end of the input
 *	signal			waits for a signal, which ends it
 *	polite			waits for a signal, and ends with status 0
 *	hang			never ends
 *	off, reset, panic	ends the guest instead
 *	nonsense		says what no runner says
 *	anything else		ends with status 0
 *
 * `first=WORD` on the command line does that before the runner speaks: off, panic, hang, or reset (once); `say=WORD` is
 * printed on the console, with blanks for underscores and a new line for each bar.
 */
#include "runner.h"
#include "../lib/boot.h"
#include "../lib/power.h"

#define ROOMS 8
#define ROOM 512

/* Input of a port, byte by byte, as buffers come. */
static struct input {
	u8 rooms[ROOMS][ROOM];
	u32 room_of[QUEUE_MOST];
} inputs[2];

static void offer(u32 port, u32 room)
{
	struct virtqueue *queue = &queues[receive_queue(port)];
	struct buffer in = { inputs[port].rooms[room], ROOM };
	inputs[port].room_of[virtqueue_add(queue, 0, 0, &in, 1)] = room;
	virtqueue_kick(queue);
}

static void offer_all(u32 port)
{
	for (u32 room = 0; room < ROOMS; room++)
		offer(port, room);
}

/* The next line of the host's. */
static void next_line(void)
{
	static u32 rest, at, room;
	for (u32 length = 0; length < LINE - 1;) {
		if (at == rest) {
			if (rest)
				offer(RUN, room);
			int head = -1;
			/* the host may take its time */
			while (head < 0) {
				head = virtqueue_take(&queues[receive_queue(RUN)], &rest);
				hear();
			}
			room = inputs[RUN].room_of[head];
			at = 0;
		}
		char c = inputs[RUN].rooms[room][at++];
		if (c == '\n') {
			line[length] = 0;
			return;
		}
		line[length++] = c;
	}
}

static void cat(void)
{
	u64 total = 0;
	struct virtqueue *in = &queues[receive_queue(STDIN)];
	for (;;) {
		u32 length = 0;
		int closed = times_closed(STDIN);
		int head = virtqueue_take(in, &length); /* what came before the end is seen before it */
		if (head >= 0) {
			u32 room = inputs[STDIN].room_of[head];
			say(STDOUT, inputs[STDIN].rooms[room], length);
			offer(STDIN, room);
			total += length;
		} else if (closed) {
			break;
		} else {
			hear();
		}
	}
	ended("exited ", 0, total, 0);
}

static void panic(void)
{
	print("[    1.234567] Kernel panic - not syncing: %s\n", "Attempted to kill init!");
	for (;;)
		pause();
}

static void obey(const char *word)
{
	if (same(word, "off"))
		power_off();
	if (same(word, "panic"))
		panic();
	if (same(word, "reset"))
		reset_i8042();
	while (same(word, "hang"))
		pause();
}

static void command(void)
{
	if (in_line("[\"status\"")) {
		ended("exited ", number_at(in_line("[\"status\"")), 0, 0);
	} else if (in_line("[\"both\"")) {
		tell(STDOUT, "out\n");
		tell(STDERR, "err\n");
		ended("exited ", 0, 4, 4);
	} else if (in_line("[\"cat\"")) {
		cat();
	} else if (in_line("[\"pour\"")) {
		u64 bytes = number_at(in_line("[\"pour\""));
		pour(STDOUT, bytes, 0);
		ended("exited ", 0, bytes, 0);
	} else if (in_line("[\"flood\"")) {
		u64 bytes = number_at(in_line("[\"flood\""));
		flood(STDOUT, bytes);
		ended("exited ", 0, bytes, 0);
	} else if (in_line("[\"drain\"")) {
		char text[32];
		put(text, "", drain(STDIN));
		tell(STDOUT, text);
		ended("exited ", 0, length_of(text), 0);
	} else if (in_line("[\"job\"")) {
		/* what the host asked for */
		tell(STDOUT, line);
		ended("exited ", 0, length_of(line), 0);
	} else if (in_line("[\"signal\"")) {
		tell(STDOUT, "waiting\n");
		next_line();
		ended("killed ", number_at(line), 8, 0);
	} else if (in_line("[\"polite\"")) {
		tell(STDOUT, "waiting\n");
		next_line();
		ended("exited ", 0, 8, 0);
	} else if (in_line("[\"pipe\"")) {
		/* pours until it is told that nobody listens */
		u64 total = 0;
		static u8 piece[4096];
		u32 length;
		while (virtqueue_take(&queues[receive_queue(RUN)], &length) < 0) {
			say(STDOUT, piece, sizeof(piece));
			total += sizeof(piece);
		}
		ended("killed ", 13, total, 0);
	} else if (in_line("[\"hang\"")) {
		tell(STDOUT, "waiting\n");
		for (;;)
			hear();
	} else if (in_line("[\"nonsense\"")) {
		tell(RUN, "exited 999999 x\n");
	} else if (!in_line("[\"off\"") && !in_line("[\"reset\"") && !in_line("[\"panic\"")) {
		ended("exited ", 0, 0, 0);
	}
	if (in_line("[\"off\""))
		power_off();
	if (in_line("[\"reset\""))
		reset_i8042();
	if (in_line("[\"panic\""))
		panic();
}

TEST(run, "run-agent")
{
	const char *word = argument("say");
	if (word) {
		char text[512];
		u32 i = 0;
		for (; word[i] && i < sizeof(text) - 1; i++)
			text[i] = word[i] == '_' ? ' ' : word[i] == '|' ? '\n' : word[i];
		text[i] = 0;
		print("%s\n", text);
	}
	word = argument("first");
	if (word && same(word, "reset")) {
		/* CMOS memory outlives a reset */
		outb(0x70, 0x50);
		u8 boots = inb(0x71);
		outb(0x70, 0x50);
		outb(0x71, 1);
		if (boots == 1)
			word = 0;
	}
	if (word)
		obey(word);
	if (!greet())
		return;
	offer_all(RUN);
	tell(RUN, "\nhello 1\n");
	tell(RUN, "ready\n");
	next_line();
	if (!in_line("[\"drain\""))
		offer_all(STDIN);
	tell(RUN, "started 1\n");
	command();
	next_line();
	expect("power-off is asked for", same(line, "poweroff"), 1);
}
