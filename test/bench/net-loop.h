/* The least that a network backend must do, in C: what chv's is measured against. */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include "front-end.h"

enum { NET_HEADER = 12 }; /* struct virtio_net_hdr_v1 */

/* A queue of the tap of that name, with the header of virtio in front of each frame; it is made if there is none. */
int open_tap(const char *name, bool persistent);
void tap_offload(int tap);
/* Moves frames between the tap and the queues 0 (receive) and 1 (transmit) for ever. */
_Noreturn void net_loop(struct front_end *front, int tap);

#endif
