/*
 * Loads a vhost-user network device, one way: frames that a driver sends and the host's stack drops, or frames that come
 * from the host by a packet socket. Says how fast it was and what CPU time it cost the back end's process.
 *
 *   net-load socket=PATH pid=PID tap=NAME way=tx|rx bytes=64|1500|65536 [seconds=N] [warm=N]
 *   net-load setup=1 tap=NAME     makes a persistent tap, up
 *   net-load peer=1 tap=NAME …    in place of the socket: the loop of net-loop.c, in a process of its own; cpu=N is where
 *
 * 65536 bytes are a TCP segment for the other side to cut: 45 times 1448 bytes, just under 64 KiB, as TCP makes them.
 */
#define _GNU_SOURCE
#include "net-loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { RX, TX, QUEUES };
enum { ring_size = 256, buffer_bytes = 4096, batch = 32, VERSION_1 = 32, largest = 45 * 1448 + 40 };
enum { PACKET_HEADER = 10 }; /* of a packet socket: struct virtio_net_hdr */

static struct front_end front;
static uint8_t *buffers[ring_size];
static uint32_t frame_bytes;

static void set_up(const char *name) {
  struct ifreq request = {.ifr_flags = 0};
  strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
  open_tap(name, true);
  int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (ioctl(any, SIOCGIFFLAGS, &request)) fail("SIOCGIFFLAGS: %m");
  request.ifr_flags |= IFF_UP;
  if (ioctl(any, SIOCSIFFLAGS, &request)) fail("SIOCSIFFLAGS: %m");
}

/* The frame behind its header. An ethertype that nobody has, or a TCP segment for nobody. */
static uint32_t make_frame(uint8_t *at, struct virtio_net_hdr *header) {
  struct ethhdr *ether = (void *)at;
  bool segment = frame_bytes > 1514;
  memset(header, 0, sizeof *header);
  memset(ether->h_dest, 0xff, ETH_ALEN);
  memcpy(ether->h_source, "\2\1\2\3\4\5", ETH_ALEN);
  ether->h_proto = htons(segment ? ETH_P_IP : 0x88b5);
  if (!segment) return frame_bytes;
  uint32_t bytes = largest; /* of the IP packet */
  struct iphdr *ip = (void *)(ether + 1);
  struct tcphdr *tcp = (void *)(ip + 1);
  *ip = (struct iphdr){.version = 4, .ihl = 5, .tot_len = htons(bytes), .ttl = 64, .protocol = IPPROTO_TCP};
  ip->saddr = inet_addr("10.9.9.9");
  ip->daddr = inet_addr("10.8.8.8");
  uint32_t sum = 0;
  for (int i = 0; i < 10; i++) sum += ((uint16_t *)ip)[i];
  ip->check = ~((sum & 0xffff) + (sum >> 16));
  *tcp = (struct tcphdr){.doff = 5, .ack = 1};
  header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  header->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
  header->hdr_len = sizeof *ether + sizeof *ip + sizeof *tcp;
  header->gso_size = 1448;
  header->csum_start = sizeof *ether + sizeof *ip;
  header->csum_offset = offsetof(struct tcphdr, check);
  return sizeof *ether + bytes;
}

static void offer_receive(uint16_t head) {
  struct vring_desc *desc = &front.queues[RX].vring.desc[head];
  *desc = (struct vring_desc){guest_address(&front, buffers[head]), buffer_bytes, VRING_DESC_F_WRITE, 0};
  queue_offer(&front.queues[RX], head);
}

static void call_wait(struct queue *queue) {
  struct pollfd call = {queue->call, POLLIN, 0};
  eventfd_t count;
  if (!queue_arm(&front, queue)) return;
  poll(&call, 1, -1); /* whether or not the eventfd blocks */
  eventfd_read(queue->call, &count);
}

/* Sends for as long as `go_on` says; all frames are the same, in chains of one piece of at most 64 KiB and a header. */
static uint64_t done;
static bool go_on(void);

static void transmit(void) {
  struct queue *queue = &front.queues[TX];
  uint8_t *frame = front_end_take(&front, 2 * largest, 4096);
  struct virtio_net_hdr_v1 *header = front_end_take(&front, sizeof *header, 16);
  uint32_t bytes = make_frame(frame, (struct virtio_net_hdr *)header);
  for (uint16_t i = 0; i < ring_size / 2; i++) {
    queue->vring.desc[2 * i] = (struct vring_desc){guest_address(&front, header), NET_HEADER, VRING_DESC_F_NEXT, 2 * i + 1};
    queue->vring.desc[2 * i + 1] = (struct vring_desc){guest_address(&front, frame), bytes, 0, 0};
    queue_offer(queue, 2 * i);
  }
  queue_kick(&front, queue);
  while (go_on()) {
    struct vring_used_elem element;
    bool found = false;
    while (queue_used(queue, &element)) {
      found = true;
      done++;
      queue_offer(queue, element.id);
    }
    queue_kick(&front, queue);
    if (!found) call_wait(queue);
  }
}

static int packet_socket(const char *name) {
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), one = 1, room = 64 << 20;
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(name)};
  if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) ||
      setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) ||
      setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) ||
      bind(fd, (struct sockaddr *)&address, sizeof address))
    fail("packet socket on %s: %m", name);
  return fd;
}

/* Frames in flight stay below what a tap keeps (its transmit queue): none is lost. */
static void receive(const char *name) {
  struct queue *queue = &front.queues[RX];
  int fd = packet_socket(name);
  static uint8_t frame[2 * largest];
  struct virtio_net_hdr header;
  uint32_t bytes = make_frame(frame, &header);
  int64_t window = bytes > 1514 ? 8 : 128;
  struct iovec parts[2] = {{&header, PACKET_HEADER}, {frame, bytes}};
  struct mmsghdr messages[batch];
  for (int i = 0; i < batch; i++) messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = parts, .msg_iovlen = 2}};
  uint64_t sent = 0;
  while (go_on()) {
    while ((int64_t)(sent - done) < window) { /* more may come than was sent: the kernel talks too */
      int64_t count = window - (int64_t)(sent - done);
      int taken = sendmmsg(fd, messages, count < batch ? count : batch, 0);
      if (taken < 0 && errno != ENOBUFS) fail("sendmmsg: %m");
      if (taken < 0) usleep(1000); /* the back end is not there yet */
      else sent += taken;
    }
    struct vring_used_elem element;
    bool found = false;
    for (uint32_t left = 0; queue_used(queue, &element) || left > 0;) {
      found = true;
      if (left == 0) {
        left = ((struct virtio_net_hdr_v1 *)buffers[element.id])->num_buffers;
        done++;
      }
      offer_receive(element.id);
      left--;
    }
    queue_kick(&front, queue);
    if (!found) call_wait(queue);
  }
}

static double started, warm, seconds, cpu;
static uint64_t first;
static int backend;

static bool go_on(void) {
  static uint32_t turns;
  static bool warming = true;
  if (++turns % 16 != 0) return true;
  double time = now();
  if (warming && time - started >= warm) {
    warming = false;
    started = time;
    cpu = cpu_seconds(backend);
    first = done;
  }
  if (warming || time - started < seconds) return true;
  printf("{\"requests\":%lu,\"seconds\":%.6f,\"cpu\":%.6f,\"rssBefore\":0,\"rssAfter\":0}\n", done - first, time - started,
         cpu_seconds(backend) - cpu);
  return false;
}

int main(int argc, char **argv) {
  const char *tap = word(argc, argv, "tap", "bench0"), *way = word(argc, argv, "way", "tx");
  if (number(argc, argv, "setup", 0)) {
    set_up(tap);
    return 0;
  }
  frame_bytes = number(argc, argv, "bytes", 64);
  warm = atof(word(argc, argv, "warm", "0"));
  seconds = atof(word(argc, argv, "seconds", "1"));
  front.path = word(argc, argv, "socket", "");
  front.wanted = FEATURE(VIRTIO_RING_F_EVENT_IDX) | FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | FEATURE(VERSION_1) |
                 FEATURE(VIRTIO_NET_F_MRG_RXBUF) | FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(VIRTIO_NET_F_GUEST_CSUM) |
                 FEATURE(VIRTIO_NET_F_HOST_TSO4) | FEATURE(VIRTIO_NET_F_GUEST_TSO4);
  if (frame_bytes <= 1514) front.wanted &= ~FEATURE(VIRTIO_NET_F_GUEST_TSO4);
  front.protocol_wanted = FEATURE(PROTOCOL_MQ) | FEATURE(PROTOCOL_REPLY_ACK);
  front.longest_frame = NET_HEADER + (frame_bytes > 1514 ? largest + ETH_HLEN : 1514);
  front_end_memory(&front, 64 << 20);
  front_end_queues(&front, QUEUES, ring_size);
  for (uint16_t i = 0; i < ring_size; i++) {
    buffers[i] = front_end_take(&front, buffer_bytes, 4096);
    offer_receive(i);
  }
  queue_kick(&front, &front.queues[RX]);
  if (number(argc, argv, "peer", 0)) {
    front.features = front.wanted;
    backend = fork();
    if (backend == 0) {
      prctl(PR_SET_PDEATHSIG, 9);
      cpu_set_t cpus;
      CPU_ZERO(&cpus);
      CPU_SET(number(argc, argv, "cpu", 0), &cpus);
      if (word(argc, argv, "cpu", NULL)) sched_setaffinity(0, sizeof cpus, &cpus);
      int fd = open_tap(tap, false);
      tap_offload(fd);
      net_loop(&front, fd);
    }
  } else {
    backend = number(argc, argv, "pid", 0);
    front_end_connect(&front, 10);
    front_end_start(&front);
  }
  started = now();
  if (!strcmp(way, "tx")) transmit();
  else receive(tap);
  if (!number(argc, argv, "peer", 0)) front_end_stop(&front);
  return 0;
}
