/*
 * The network device (virtio 1.2, section 5.1), and a station on its wire: 10.0.0.2, MAC
 * 02:01:02:03:04:05. It answers ARP, and sends UDP datagrams to port 7 back (RFC 826, 862).
 */
#ifndef NET_H
#define NET_H
#include "../lib/test.h"
#include "../lib/virtio.h"

#define NET_F_MTU (1ul << 3)
#define NET_F_MAC (1ul << 5)
#define NET_F_MRG_RXBUF (1ul << 15)
#define NET_F_STATUS (1ul << 16)
#define NET_F_CTRL_VQ (1ul << 17)
#define NET_F_CTRL_RX (1ul << 18)
#define NET_F_CTRL_MAC_ADDR (1ul << 23)
/* No offloads: checksums are right on the wire. */
#define NET_PLAIN                                                                            \
	(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | NET_F_MTU | NET_F_MAC | NET_F_STATUS |     \
	 NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_CTRL_MAC_ADDR)
#define NET_MERGING (NET_PLAIN | NET_F_MRG_RXBUF)

enum { RECEIVE, TRANSMIT, CONTROL, NET_QUEUES };
#define BUFFERS 32
#define ROOM 2048
#define HEADER 12 /* struct virtio_net_hdr_v1 */

extern struct virtio net;
extern struct virtqueue net_queues[NET_QUEUES];
extern const u8 own_mac[6];

/* Swaps two fields of a frame. */
static inline void exchange(u8 *one, u8 *other, u32 length)
{
	for (u32 i = 0; i < length; i++) {
		u8 byte = one[i];
		one[i] = other[i];
		other[i] = byte;
	}
}

/* Whether 16 bits of a frame, in its order, are that value. */
static inline int is(const u8 *at, u32 value)
{
	return (u32)(at[0] << 8 | at[1]) == value;
}

/* With receive buffers of `room` bytes; whether it started. */
int net_start(enum virtio_interrupts by, u64 wanted, u32 room);
void net_stop(void);

/* The ack of a command, or -1. */
long net_command(u8 kind, u8 command, const void *data, u32 length);

struct ether_frame {
	u8 *at;
	u32 length;
	/* The receive buffers that hold it. */
	u32 buffers;
	u16 rooms[BUFFERS];
};

/*
 * The next frame, waiting for it, copied together when it lies in several buffers: by interrupt if
 * the device was started so. 0 when none came.
 */
int net_receive(struct ether_frame *frame);
/* Gives the frame's buffers to the device again. */
void net_give(struct ether_frame *frame);
/* Sends `length` bytes behind a header of zeroes, and waits until they are gone. */
void net_send(const void *at, u32 length);

/* Serves the station until a datagram says "end"; how many came back. */
u32 station(void);

#endif
