/*
 * The driver's half of a vhost-user device, for load generators: shared memory, rings, eventfds and the front end's
 * messages (QEMU, docs/interop/vhost-user.rst). Written from the specification; it shares nothing with chv.
 */
#ifndef FRONT_END_H
#define FRONT_END_H

#include <linux/virtio_ring.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

enum {
  GET_FEATURES = 1,
  SET_FEATURES = 2,
  SET_OWNER = 3,
  SET_MEM_TABLE = 5,
  SET_VRING_NUM = 8,
  SET_VRING_ADDR = 9,
  SET_VRING_BASE = 10,
  GET_VRING_BASE = 11,
  SET_VRING_KICK = 12,
  SET_VRING_CALL = 13,
  SET_VRING_ERR = 14,
  GET_PROTOCOL_FEATURES = 15,
  SET_PROTOCOL_FEATURES = 16,
  GET_QUEUE_NUM = 17,
  SET_VRING_ENABLE = 18,
  GET_CONFIG = 24,
  GET_INFLIGHT_FD = 31,
  SET_INFLIGHT_FD = 32,
};
enum { PROTOCOL_MQ = 0, PROTOCOL_REPLY_ACK = 3, PROTOCOL_CONFIG = 9, PROTOCOL_INFLIGHT = 12 };
#define FEATURE(bit) (1ull << (bit))
#define F_PROTOCOL_FEATURES 30

struct region {
  uint64_t guest, size, user, offset;
};
struct inflight {
  uint64_t size, offset;
  uint16_t queues, queue_size;
  uint32_t pad;
};
struct vring_place {
  uint32_t index, flags;
  uint64_t desc, used, avail, log;
};
struct config_space {
  uint32_t offset, size, flags;
  uint8_t bytes[256];
};

/* One queue as its driver sees it. */
struct queue {
  uint16_t size;
  struct vring vring;
  int kick, call;
  uint16_t avail_idx; /* as published, or about to be */
  uint16_t kicked_idx;
  uint16_t used_idx; /* taken so far */
};

struct front_end {
  const char *path;
  int socket;
  int memory;
  uint8_t *ram;
  uint64_t ram_bytes;
  uint64_t taken; /* of ram, by front_end_take */
  struct region regions[2];
  uint32_t region_count;
  uint64_t wanted, features; /* feature bits */
  uint64_t protocol_wanted, protocol;
  struct queue *queues;
  uint32_t queue_count;
  uint32_t longest_frame; /* of a network, with its header */
  int inflight_fd;
  struct inflight inflight;
  jmp_buf *lost; /* where to go when the back end leaves in the midst of messages; NULL: that is a failure */
};

_Noreturn void fail(const char *format, ...);
double now(void);

/* Shared memory: one region, or two around the hole below 4 GiB, as a PC has them. */
void front_end_memory(struct front_end *front, uint64_t bytes);
/* A piece of it; the guest-physical address of any byte. */
void *front_end_take(struct front_end *front, uint64_t bytes, uint64_t align);
uint64_t guest_address(const struct front_end *front, const void *host);
/* Rings and eventfds for every queue. */
void front_end_queues(struct front_end *front, uint32_t count, uint16_t size);

/* Connects and negotiates; waits for the socket to appear for up to `patience` seconds. */
void front_end_connect(struct front_end *front, double patience);
/* Memory table, inflight area, and every queue, running from where it is. */
void front_end_start(struct front_end *front);
/* Stops every queue. */
void front_end_stop(struct front_end *front);
uint64_t front_end_ask(struct front_end *front, uint32_t request);
void front_end_config(struct front_end *front, void *config, uint32_t size);

/* Makes chain `head` available; `queue_kick` publishes, and kicks if the device wants it. */
void queue_offer(struct queue *queue, uint16_t head);
void queue_kick(struct front_end *front, struct queue *queue);
/* Takes one used element, if there is one. */
bool queue_used(struct queue *queue, struct vring_used_elem *element);
/* Asks for a call with the next used buffer; false when there is one already. */
bool queue_arm(struct front_end *front, struct queue *queue);

/* What the command line says: `name=value` words. */
const char *word(int argc, char **argv, const char *name, const char *fallback);
uint64_t number(int argc, char **argv, const char *name, uint64_t fallback);
/* CPU seconds of a process, its finished threads too. */
double cpu_seconds(int pid);
/* KiB of a line of /proc/PID/status. */
long status_kib(int pid, const char *line);

#endif
