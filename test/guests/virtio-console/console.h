/* The console devices under test (virtio 1.2, section 5.3). */
#ifndef CONSOLE_H
#define CONSOLE_H
#include "../lib/test.h"
#include "../lib/virtio.h"

#define CONSOLE_F_SIZE (1ul << 0)
#define CONSOLE_F_MULTIPORT (1ul << 1)

/* Offsets in configuration space. */
#define CONSOLE_COLS 0
#define CONSOLE_ROWS 2
#define CONSOLE_PORTS 4

#define PORTS_MOST 4
#define CONSOLE_QUEUES (2 + 2 * PORTS_MOST)

extern struct virtio console;
extern struct virtqueue queues[CONSOLE_QUEUES];

/* Starts the console device (`nth=N` says which) with so many queues, by polling; tells the test if it fails. */
int console_start(u64 wanted, u32 count);
void console_stop(void);

/* The receive queue of a port; the transmit queue is the next. */
static inline u32 receive_queue(u32 port)
{
	return port ? 2 + 2 * port : 0;
}

/* Puts text out, and waits until the device has it. */
void say(u32 port, const void *at, u32 length);
/* Sends back so many bytes that come in by a port. */
void echo(u32 port, u32 bytes);
/* Puts out so many bytes of "0123456789abcdef" and again, in pieces, several on their way; waits or not. */
void pour(u32 port, u32 bytes, int wait);
/* The same for many bytes, in whole pieces of 32 KiB: the numbers from 0 to 4095, 8 bytes each, little-endian. */
void flood(u32 port, u64 bytes);
/* Counts the bytes that come in by a port until its far end has gone. No room may have been offered. */
u64 drain(u32 port);

/* Starts a device of several ports and greets them all; how many there are. */
u32 greet(void);
/* Takes one control message; whether there was one. */
int hear(void);
/* How often a port's far end has gone. */
int times_closed(u32 port);

#endif
