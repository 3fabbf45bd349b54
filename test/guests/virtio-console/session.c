/*
 * A guest of the SDK: what the runner of `chv run` says when it runs one command after the other, without Linux; or
 * one command. The first of these words that is in a command chooses what happens:
 *
 *	uname			"6.12.0-micro\n"
 *	both			"out\n" and "err\n", status 3
 *	cat			what comes in goes out, to the end of the input
 *	tar x			keeps what comes in, to its end
 *	tar c			puts out what was kept; after "tar x" in the same command, too
 *	deaf			status 4; reads nothing of its input
 *	pour BYTES		so many bytes of output
 *	job			what the host has asked for
 *	wait			"waiting\n", and then a signal ends it
 *	stubborn		the same; the second signal ends it
 *	off, reset, panic	"bye\n", and then the end of the guest instead
 *	nonsense		says what no runner says
 *
 * `first=panic` on the command line does that before the runner speaks; `mute=1`: it never speaks; `say=WORD` is printed
 * on the console, with blanks for underscores.
 */
#include "runner.h"
#include "../lib/boot.h"
#include "../lib/power.h"

#define ROOMS 8
#define ROOM 4096
#define KEPT 256

/* Input of a port, as buffers come. What is kept stays in its room: others are offered in its place. */
static struct input {
	u8 rooms[ROOMS + KEPT][ROOM];
	u32 room_of[QUEUE_MOST];
} inputs[2];
static struct {
	u32 room, length;
} kept[KEPT];
static u32 kept_rooms;

/* Of the command at hand: its input's bytes so far, how many they are in all, and signals. */
static u64 count, end;
/* More commands follow: the end of the input is told, else it is the port's. */
static int more;
static u32 signal, signals;
#define UNKNOWN (~0ul)

static void offer(u32 port, u32 room)
{
	struct virtqueue *queue = &queues[receive_queue(port)];
	struct buffer in = { inputs[port].rooms[room], ROOM };
	inputs[port].room_of[virtqueue_add(queue, 0, 0, &in, 1)] = room;
	virtqueue_kick(queue);
}

/* Takes what the host has said; whether that makes a line. */
static int next_line(void)
{
	static u32 rest, at, room, length;
	for (;;) {
		if (at == rest) {
			if (rest)
				offer(RUN, room);
			rest = at = 0;
			int head = virtqueue_take(&queues[receive_queue(RUN)], &rest);
			if (head < 0) {
				hear();
				return 0;
			}
			room = inputs[RUN].room_of[head];
		}
		char c = inputs[RUN].rooms[room][at++];
		if (c == '\n') {
			line[length] = 0;
			length = 0;
			return 1;
		}
		if (length < LINE - 1)
			line[length++] = c;
	}
}

/* Lines that speak of the command at hand. */
static void listen(void)
{
	if (!next_line())
		return;
	const char *of = in_line("input ");
	if (of)
		end = number_at(of);
	of = in_line("signal ");
	if (of) {
		signal = number_at(of);
		signals++;
	}
}

enum use { DROP, HAND_ON, KEEP };

/* Takes a piece of the command's input and does something with it; whether there is more to come. */
static int take_input(enum use use)
{
	if (count == end)
		return 0;
	u32 length = 0;
	int closed = times_closed(STDIN); /* what came before the end is seen before it */
	int head = virtqueue_take(&queues[receive_queue(STDIN)], &length);
	if (head < 0) {
		listen();
		return more || !closed;
	}
	u32 room = inputs[STDIN].room_of[head];
	count += length;
	if (use == HAND_ON)
		say(STDOUT, inputs[STDIN].rooms[room], length);
	if (use == KEEP && kept_rooms < KEPT) {
		u32 fresh = kept[kept_rooms].room;
		kept[kept_rooms].room = room;
		kept[kept_rooms++].length = length;
		room = fresh;
	}
	offer(STDIN, room);
	return 1;
}

/* What was kept; how much that is. */
static u64 put_out(void)
{
	u64 bytes = 0;
	for (u32 i = 0; i < kept_rooms; i++) {
		say(STDOUT, inputs[STDIN].rooms[kept[i].room], kept[i].length);
		bytes += kept[i].length;
	}
	return bytes;
}

static void panic(void)
{
	print("[    1.234567] Kernel panic - not syncing: %s\n", "Attempted to kill init!");
	for (;;)
		pause();
}

static void wait_for_signals(u32 wanted)
{
	tell(STDOUT, "waiting\n");
	while (signals < wanted)
		listen();
	ended("killed ", signal, 8, 0);
}

static void command(void)
{
	if (in_line("uname")) {
		tell(STDOUT, "6.12.0-micro\n");
		ended("exited ", 0, 13, 0);
	} else if (in_line("both")) {
		tell(STDOUT, "out\n");
		tell(STDERR, "err\n");
		ended("exited ", 3, 4, 4);
	} else if (in_line("cat")) {
		while (take_input(HAND_ON))
			;
		ended("exited ", 0, count, 0);
	} else if (in_line("tar x") || in_line("\"tar\",\"x\"")) {
		int back = in_line("tar c") != 0; /* listening writes over the line */
		kept_rooms = 0;
		while (take_input(KEEP))
			;
		ended("exited ", 0, back ? put_out() : 0, 0);
	} else if (in_line("tar c") || in_line("\"tar\",\"c\"")) {
		ended("exited ", 0, put_out(), 0);
	} else if (in_line("deaf")) {
		ended("exited ", 4, 0, 0);
	} else if (in_line("pour")) {
		u64 bytes = number_at(in_line("pour"));
		pour(STDOUT, bytes, 1);
		ended("exited ", 0, bytes, 0);
	} else if (in_line("job")) {
		u32 length = length_of(line);
		tell(STDOUT, line);
		ended("exited ", 0, length, 0);
	} else if (in_line("wait")) {
		wait_for_signals(1);
	} else if (in_line("stubborn")) {
		wait_for_signals(2);
	} else if (in_line("nonsense")) {
		tell(RUN, "exited 999999 x\n");
	} else if (in_line("off") || in_line("reset") || in_line("panic")) {
		tell(STDOUT, "bye\n");
		if (in_line("off"))
			power_off();
		if (in_line("reset"))
			reset_i8042();
		panic();
	} else {
		ended("exited ", 0, 0, 0);
	}
}

TEST(session, "run-session")
{
	const char *word = argument("say");
	if (word) {
		char text[512];
		u32 i = 0;
		for (; word[i] && i < sizeof(text) - 1; i++)
			text[i] = word[i] == '_' ? ' ' : word[i];
		text[i] = 0;
		print("%s\n", text);
	}
	word = argument("first");
	if (word && same(word, "panic"))
		panic();
	if (!greet())
		return;
	for (u32 i = 0; i < KEPT; i++)
		kept[i].room = ROOMS + i;
	for (u32 room = 0; room < ROOMS; room++) {
		offer(RUN, room);
		offer(STDIN, room);
	}
	while (argument_number("mute", 0))
		hear();
	tell(RUN, "\nhello 1\n");
	tell(RUN, "ready\n");
	for (;;) {
		while (!next_line())
			;
		if (same(line, "poweroff"))
			break;
		if (line[0] != '{')
			continue;
		count = 0;
		end = UNKNOWN;
		signals = 0;
		more = in_line("\"more\":true") != 0;
		tell(RUN, "started 1\n");
		command();
		while (more && take_input(DROP))
			;
		if (more)
			tell(RUN, "ready\n");
	}
}
