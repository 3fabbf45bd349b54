/*
 * Loads a vhost-user block device as a driver with `depth` requests in flight on each queue would, and says how fast it
 * was and what CPU time it cost the back end's process. Every answer is checked: its length, its status, and that the
 * data is that of its sector (each block of the image begins with its own byte offset).
 *
 *   blk-load socket=PATH pid=PID file-bytes=N [op=randread|randwrite|read] [bytes=4096] [depth=1] [queues=1]
 *            [segments=1] [ram=N] [seconds=N] [warm=N] [requests=N] [reconnect=1] [image=PATH] [spread=1] [flush=1]
 *
 * reconnect=1: the back end may die at any time; its successor gets the inflight area back, and "up N" is said when the
 * Nth has answered 1000 requests. image=PATH: at the end every block that was written must hold what was written last.
 * spread=1: the buffers lie all over RAM. flush=1: one request of each queue is always a FLUSH, which ends later than
 * others that began after it.
 */
#include "front-end.h"

#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RANDOM_READ, RANDOM_WRITE, READ };
enum { VERSION_1 = 32, max_segments = 126, answers_to_tell = 1000 };

struct slot {
  struct vring_desc *table;
  struct virtio_blk_outhdr *header;
  uint8_t *status;
  uint64_t *data[max_segments];
  uint64_t block;
  bool busy, flushes;
};

static struct front_end front;
static struct slot *slots; /* queue by queue */
static uint64_t *stamps;   /* by block: what was written last */
static uint32_t depth, bytes, segments;
static int operation;
static uint64_t blocks, serial, next_block;
static uint64_t done, done_before; /* requests in all, and with back ends that are gone */
static uint64_t seed = 88172645463325252ull;

static uint64_t random_number(void) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}

static void describe(struct vring_desc *desc, void *host, uint32_t length, uint16_t flags, uint16_t next) {
  *desc = (struct vring_desc){guest_address(&front, host), length, flags, next};
}

static void prepare(uint32_t queue, uint32_t index, bool spread) {
  struct slot *slot = &slots[queue * depth + index];
  if (spread) front.taken += (front.ram_bytes - front.taken) / (depth * front.queue_count - (queue * depth + index) + 1);
  slot->table = front_end_take(&front, (segments + 2) * sizeof *slot->table, 16);
  slot->header = front_end_take(&front, sizeof *slot->header, 16);
  slot->status = front_end_take(&front, 1, 1);
  uint16_t direction = operation == RANDOM_WRITE ? 0 : VRING_DESC_F_WRITE;
  describe(&slot->table[0], slot->header, sizeof *slot->header, VRING_DESC_F_NEXT, 1);
  for (uint32_t i = 0; i < segments; i++) {
    slot->data[i] = front_end_take(&front, bytes / segments, 4096);
    describe(&slot->table[i + 1], slot->data[i], bytes / segments, direction | VRING_DESC_F_NEXT, i + 2);
  }
  describe(&slot->table[segments + 1], slot->status, 1, VRING_DESC_F_WRITE, 0);
  struct vring_desc *head = &front.queues[queue].vring.desc[index];
  if (slot->flushes) {
    slot->table[1] = slot->table[segments + 1];
    describe(head, slot->table, 2 * sizeof *slot->table, VRING_DESC_F_INDIRECT, 0);
    return;
  }
  describe(head, slot->table, (segments + 2) * sizeof *slot->table, VRING_DESC_F_INDIRECT, 0);
}

/* Blocks of different slots are different, so that what a block holds in the end is known. */
static uint64_t choose(uint32_t number) {
  uint64_t slot_count = depth * front.queue_count;
  if (operation == READ) return next_block++ % blocks;
  if (operation == RANDOM_READ) return random_number() % blocks;
  return random_number() % (blocks / slot_count) * slot_count + number;
}

static void submit(uint32_t queue, uint32_t index) {
  uint32_t number = queue * depth + index;
  struct slot *slot = &slots[number];
  slot->block = choose(number);
  slot->busy = true;
  *slot->status = 0xee;
  queue_offer(&front.queues[queue], index);
  if (slot->flushes) {
    *slot->header = (struct virtio_blk_outhdr){VIRTIO_BLK_T_FLUSH, 0, 0};
    return;
  }
  bool write = operation == RANDOM_WRITE;
  *slot->header = (struct virtio_blk_outhdr){write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, 0, slot->block * bytes / 512};
  slot->data[0][0] = write ? slot->block * bytes : ~0ull;
  slot->data[0][1] = ++serial;
}

static void finish(uint32_t queue, const struct vring_used_elem *element) {
  struct slot *slot = &slots[queue * depth + element->id];
  if (element->id >= depth || !slot->busy) fail("an answer to no request: %u of queue %u", element->id, queue);
  slot->busy = false;
  bool write = operation == RANDOM_WRITE;
  if (*slot->status != VIRTIO_BLK_S_OK) fail("status %u at block %lu", *slot->status, slot->block);
  done++;
  if (slot->flushes) return;
  if (element->len != (write ? 1 : bytes + 1)) fail("%u bytes written", element->len);
  if (write && stamps) stamps[slot->block] = slot->data[0][1];
  if (slot->data[0][0] != slot->block * bytes) fail("block %lu holds %lx", slot->block, slot->data[0][0]);
}

static void check_image(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("%s: %m", path);
  for (uint64_t block = 0; block < blocks; block++) {
    uint64_t found[2];
    if (stamps[block] == 0) continue;
    if (pread(fd, found, sizeof found, block * bytes) != sizeof found) fail("%s: %m", path);
    if (found[0] != block * bytes || found[1] != stamps[block])
      fail("block %lu holds write %lu, the last was %lu", block, found[1], stamps[block]);
  }
  close(fd);
}

/* With reconnect=1: says on stdout that this connection has answered. */
static void tell(uint32_t connections) {
  static uint32_t told;
  if (told == connections || done - done_before < answers_to_tell) return;
  told = connections;
  printf("up %u\n", connections);
  fflush(stdout);
}

/* A dying back end may still have taken the first try. */
static void connect_again(void) {
  jmp_buf lost;
  front.lost = &lost;
  setjmp(lost);
  close(front.socket);
  front_end_connect(&front, 10);
  front_end_start(&front);
  front.lost = NULL;
}

/* Sleeps until the device calls. True when the back end is gone instead. */
static bool wait_for_call(bool reconnect) {
  struct pollfd fds[2] = {{front.queues[0].call, POLLIN, 0}, {front.socket, POLLIN, 0}};
  /* some back ends make the eventfd non-blocking, and a read alone would not sleep */
  poll(fds, reconnect ? 2 : 1, -1);
  if (fds[1].revents) return true;
  eventfd_t count;
  eventfd_read(front.queues[0].call, &count);
  return false;
}

/* One turn over all queues; false when there was nothing. */
static bool turn(bool more) {
  bool found = false;
  struct vring_used_elem element;
  for (uint32_t i = 0; i < front.queue_count; i++) {
    while (queue_used(&front.queues[i], &element)) {
      found = true;
      finish(i, &element);
      if (more) submit(i, element.id);
    }
    queue_kick(&front, &front.queues[i]);
  }
  return found;
}

static bool busy(void) {
  for (uint32_t i = 0; i < depth * front.queue_count; i++)
    if (slots[i].busy) return true;
  return false;
}

int main(int argc, char **argv) {
  int pid = number(argc, argv, "pid", getpid());
  const char *op = word(argc, argv, "op", "randread"), *image = word(argc, argv, "image", NULL);
  operation = !strcmp(op, "randwrite") ? RANDOM_WRITE : !strcmp(op, "read") ? READ : RANDOM_READ;
  bytes = number(argc, argv, "bytes", 4096);
  depth = number(argc, argv, "depth", 1);
  segments = number(argc, argv, "segments", 1);
  blocks = number(argc, argv, "file-bytes", 0) / bytes;
  double warm = atof(word(argc, argv, "warm", "0")), seconds = atof(word(argc, argv, "seconds", "1e9"));
  uint64_t requests = number(argc, argv, "requests", UINT64_MAX);
  bool reconnect = number(argc, argv, "reconnect", 0);
  if (segments > max_segments || blocks == 0) fail("segments= or file-bytes= is wrong");
  if (image) stamps = calloc(blocks, sizeof *stamps);

  front.path = word(argc, argv, "socket", "");
  front.wanted = FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | FEATURE(VIRTIO_RING_F_EVENT_IDX) | FEATURE(VERSION_1) |
                 FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_BLK_F_MQ) | FEATURE(VIRTIO_BLK_F_SEG_MAX) |
                 FEATURE(VIRTIO_BLK_F_BLK_SIZE) | FEATURE(VIRTIO_BLK_F_CONFIG_WCE);
  front.protocol_wanted = FEATURE(PROTOCOL_MQ) | FEATURE(PROTOCOL_REPLY_ACK) | FEATURE(PROTOCOL_CONFIG) |
                          (reconnect ? FEATURE(PROTOCOL_INFLIGHT) : 0);
  front_end_memory(&front, number(argc, argv, "ram", 256ull << 20));
  front_end_queues(&front, number(argc, argv, "queues", 1), 128);
  slots = calloc(depth * front.queue_count, sizeof *slots);
  bool spread = number(argc, argv, "spread", 0);
  for (uint32_t i = 0; i < front.queue_count; i++)
    for (uint32_t j = 0; j < depth; j++) {
      slots[i * depth + j].flushes = j == 0 && number(argc, argv, "flush", 0);
      prepare(i, j, spread);
    }

  front_end_connect(&front, 10);
  front_end_start(&front);
  double start = now(), cpu = cpu_seconds(pid);
  long before = status_kib(pid, "RssAnon");
  uint64_t first = 0;
  uint32_t connections = 1;
  bool warming = true, more = true;
  for (uint32_t i = 0; i < front.queue_count; i++) {
    for (uint32_t j = 0; j < depth; j++) submit(i, j);
    queue_kick(&front, &front.queues[i]);
  }
  while (more || busy()) {
    if (!turn(more)) {
      bool empty = true;
      for (uint32_t i = 0; i < front.queue_count; i++) empty &= queue_arm(&front, &front.queues[i]);
      if (empty && wait_for_call(reconnect)) {
        connect_again();
        connections++;
        done_before = done;
      }
    }
    if (reconnect) tell(connections);
    if (!more) continue;
    double time = now();
    if (warming && time - start >= warm) {
      warming = false;
      start = time;
      cpu = cpu_seconds(pid);
      before = status_kib(pid, "RssAnon");
      first = done;
    }
    more = warming || (time - start < seconds && done - first < requests);
    if (!more) {
      double used = reconnect ? 0 : cpu_seconds(pid) - cpu;
      printf("{\"requests\":%lu,\"seconds\":%.6f,\"cpu\":%.6f,\"connections\":%u,\"rssBefore\":%ld,\"rssAfter\":%ld}\n",
             done - first, time - start, used, connections, before, reconnect ? 0 : status_kib(pid, "RssAnon"));
    }
  }
  front_end_stop(&front);
  if (image) check_image(image);
  return 0;
}
