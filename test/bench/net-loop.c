#include "net-loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

enum { most_chains = 20, frames_per_turn = 128 };

int open_tap(const char *name, bool persistent) {
  struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
  strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
  int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), header = NET_HEADER;
  if (tap < 0 || ioctl(tap, TUNSETIFF, &request)) fail("tap %s: %m", name);
  if (ioctl(tap, TUNSETVNETHDRSZ, &header)) fail("TUNSETVNETHDRSZ: %m");
  if (persistent && ioctl(tap, TUNSETPERSIST, 1)) fail("TUNSETPERSIST: %m");
  return tap;
}

void tap_offload(int tap) {
  if (ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)) fail("TUNSETOFFLOAD: %m");
}

struct device_queue {
  struct vring *vring;
  uint16_t avail, used, called;
};

static struct front_end *front;

static void *host(uint64_t guest) {
  for (uint32_t i = 0; i < front->region_count; i++) {
    struct region *region = &front->regions[i];
    if (guest >= region->guest && guest < region->guest + region->size)
      return (void *)(region->user + guest - region->guest);
  }
  fail("%lx is no memory", guest);
}

/* The pieces of a chain, an indirect one included. */
static int pieces(struct device_queue *queue, uint16_t head, struct iovec *into) {
  struct vring_desc *table = queue->vring->desc, *desc = &table[head];
  if (desc->flags & VRING_DESC_F_INDIRECT) desc = table = host(desc->addr);
  int count = 0;
  for (;; desc = &table[desc->next]) {
    into[count++] = (struct iovec){host(desc->addr), desc->len};
    if (!(desc->flags & VRING_DESC_F_NEXT)) return count;
  }
}

static bool available(struct device_queue *queue) {
  return queue->avail != __atomic_load_n(&queue->vring->avail->idx, __ATOMIC_ACQUIRE);
}

/* Asks for a kick with the chain of that index; false when it is there already. */
static bool arm(struct device_queue *queue, uint16_t index) {
  __atomic_store_n(&vring_avail_event(queue->vring), index, __ATOMIC_RELAXED);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  return index == __atomic_load_n(&queue->vring->avail->idx, __ATOMIC_ACQUIRE);
}

static void complete(struct device_queue *queue, uint16_t head, uint32_t length) {
  uint16_t mask = queue->vring->num - 1;
  queue->vring->used->ring[queue->used++ & mask] = (struct vring_used_elem){head, length};
}

static void flush(struct device_queue *queue, int call) {
  if (queue->used == queue->called) return;
  __atomic_store_n(&queue->vring->used->idx, queue->used, __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  uint16_t event = __atomic_load_n(&vring_used_event(queue->vring), __ATOMIC_RELAXED);
  if (vring_need_event(event, queue->used, queue->called)) eventfd_write(call, 1);
  queue->called = queue->used;
}

/* False when there is nothing more to do. */
static bool transmit(struct device_queue *queue, int tap, int call) {
  struct iovec parts[64];
  for (int i = 0; i < frames_per_turn; i++) {
    if (!available(queue)) {
      flush(queue, call);
      if (arm(queue, queue->avail)) return false;
    }
    uint16_t head = queue->vring->avail->ring[queue->avail & (queue->vring->num - 1)];
    if (writev(tap, parts, pieces(queue, head, parts)) < 0 && errno == EAGAIN) break;
    queue->avail++;
    complete(queue, head, 0);
  }
  flush(queue, call);
  return true;
}

/* Merged buffers: as many chains as a frame of 64 KiB may take are filled with one readv. False when it must wait. */
static bool receive(struct device_queue *queue, int tap, int call, uint32_t longest) {
  bool more = true;
  for (int i = 0; more && i < frames_per_turn; i++) {
    struct iovec parts[most_chains];
    uint16_t heads[most_chains], mask = queue->vring->num - 1;
    uint32_t room = 0;
    int count = 0;
    uint16_t end = __atomic_load_n(&queue->vring->avail->idx, __ATOMIC_ACQUIRE);
    for (uint16_t at = queue->avail; at != end && room < longest && count < most_chains; at++) {
      heads[count] = queue->vring->avail->ring[at & mask];
      pieces(queue, heads[count], &parts[count]);
      room += parts[count++].iov_len;
    }
    if (room < longest && arm(queue, end)) more = false;
    if (room < longest) continue;
    ssize_t length = readv(tap, parts, count);
    more = length >= 0;
    uint16_t used = 0;
    for (ssize_t left = length; left > 0; left -= parts[used++].iov_len)
      complete(queue, heads[used], left < (ssize_t)parts[used].iov_len ? left : (ssize_t)parts[used].iov_len);
    if (more) ((struct virtio_net_hdr_v1 *)parts[0].iov_base)->num_buffers = used;
    queue->avail += used;
  }
  flush(queue, call);
  return more;
}

_Noreturn void net_loop(struct front_end *all, int tap) {
  front = all;
  struct device_queue rx = {.vring = &front->queues[0].vring}, tx = {.vring = &front->queues[1].vring};
  int set = epoll_create1(0), call = front->queues[0].call;
  struct epoll_event tap_event = {EPOLLIN | EPOLLET, {.u32 = 0}}, kick = {EPOLLIN | EPOLLET, {.u32 = 1}};
  epoll_ctl(set, EPOLL_CTL_ADD, tap, &tap_event);
  for (int i = 0; i < 2; i++) epoll_ctl(set, EPOLL_CTL_ADD, front->queues[i].kick, &kick);
  for (bool busy = true;;) {
    struct epoll_event events[4];
    epoll_wait(set, events, 4, busy ? 0 : -1);
    busy = receive(&rx, tap, call, front->longest_frame);
    busy |= transmit(&tx, tap, call);
  }
}
