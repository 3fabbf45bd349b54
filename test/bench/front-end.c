#define _GNU_SOURCE
#include "front-end.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { VERSION = 1, REPLY = 4, NEED_REPLY = 8 };
static const uint64_t hole_start = 3ull << 30, hole_end = 4ull << 30;

struct header {
  uint32_t request, flags, size;
};

_Noreturn void fail(const char *format, ...) {
  va_list list;
  va_start(list, format);
  vfprintf(stderr, format, list);
  fputc('\n', stderr);
  exit(1);
}

double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

void front_end_memory(struct front_end *front, uint64_t bytes) {
  front->memory = memfd_create("guest", MFD_CLOEXEC);
  if (front->memory < 0 || ftruncate(front->memory, bytes)) fail("memfd: %m");
  front->ram = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, front->memory, 0);
  if (front->ram == MAP_FAILED) fail("mmap: %m");
  front->ram_bytes = bytes;
  uint64_t low = bytes < hole_start ? bytes : hole_start, user = (uint64_t)front->ram;
  front->regions[0] = (struct region){0, low, user, 0};
  front->regions[1] = (struct region){hole_end, bytes - low, user + low, low};
  front->region_count = bytes > low ? 2 : 1;
}

void *front_end_take(struct front_end *front, uint64_t bytes, uint64_t align) {
  uint64_t at = (front->taken + align - 1) / align * align;
  if (at < hole_start && at + bytes > hole_start) at = hole_start; /* no piece in both regions */
  front->taken = at + bytes;
  if (front->taken > front->ram_bytes) fail("more memory is needed; raise ram=");
  return front->ram + at;
}

uint64_t guest_address(const struct front_end *front, const void *host) {
  uint64_t offset = (const uint8_t *)host - front->ram;
  return offset < hole_start ? offset : offset - hole_start + hole_end;
}

void front_end_queues(struct front_end *front, uint32_t count, uint16_t size) {
  front->queues = calloc(count, sizeof *front->queues);
  front->queue_count = count;
  int call = eventfd(0, EFD_CLOEXEC); /* one for all: a single thread waits */
  for (uint32_t i = 0; i < count; i++) {
    struct queue *queue = &front->queues[i];
    queue->size = size;
    vring_init(&queue->vring, size, front_end_take(front, vring_size(size, 4096), 4096), 4096);
    queue->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    queue->call = call;
    if (queue->kick < 0 || call < 0) fail("eventfd: %m");
  }
  front->inflight_fd = -1;
}

static void lost(struct front_end *front, uint32_t request) {
  if (front->lost) longjmp(*front->lost, 1);
  fail("request %u: the back end left: %m", request);
}

static void send_message(struct front_end *front, uint32_t request, uint32_t flags, const void *body, uint32_t size,
                         const int *fds, uint32_t fd_count) {
  struct header header = {request, VERSION | flags, size};
  struct iovec parts[2] = {{&header, sizeof header}, {(void *)body, size}};
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(8 * sizeof(int))];
  } control = {0};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
  if (fd_count > 0) {
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
    memcpy(CMSG_DATA(rights), fds, fd_count * sizeof(int));
  }
  ssize_t sent = sendmsg(front->socket, &message, MSG_NOSIGNAL);
  if (sent != (ssize_t)(sizeof header + size)) lost(front, request);
}

static void receive(struct front_end *front, void *into, size_t size, int *fd) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec part = {into, size};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t got = recvmsg(front->socket, &message, MSG_WAITALL | MSG_CMSG_CLOEXEC);
  if (got != (ssize_t)size) lost(front, 0);
  struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
  if (fd && rights) memcpy(fd, CMSG_DATA(rights), sizeof *fd);
}

static void reply(struct front_end *front, uint32_t request, void *body, uint32_t size, int *fd) {
  struct header header;
  receive(front, &header, sizeof header, fd);
  if (header.request != request || header.flags != (VERSION | REPLY) || header.size != size)
    fail("a reply to %u of flags %x and %u bytes for request %u", header.request, header.flags, header.size, request);
  receive(front, body, size, NULL);
}

/* A message that has no reply of its own: acknowledged, if the back end can. */
static void tell(struct front_end *front, uint32_t request, const void *body, uint32_t size, const int *fds,
                 uint32_t fd_count) {
  bool acknowledged = front->protocol & FEATURE(PROTOCOL_REPLY_ACK);
  send_message(front, request, acknowledged ? NEED_REPLY : 0, body, size, fds, fd_count);
  if (!acknowledged) return;
  uint64_t result = 0;
  reply(front, request, &result, sizeof result, NULL);
  if (result != 0) fail("the back end refused request %u", request);
}

static void tell_number(struct front_end *front, uint32_t request, uint64_t value) {
  tell(front, request, &value, sizeof value, NULL, 0);
}

static void tell_state(struct front_end *front, uint32_t request, uint32_t index, uint32_t value) {
  uint32_t state[2] = {index, value};
  tell(front, request, state, sizeof state, NULL, 0);
}

uint64_t front_end_ask(struct front_end *front, uint32_t request) {
  uint64_t value;
  send_message(front, request, 0, NULL, 0, NULL, 0);
  reply(front, request, &value, sizeof value, NULL);
  return value;
}

void front_end_config(struct front_end *front, void *config, uint32_t size) {
  struct config_space space = {0, size, 0, {0}};
  send_message(front, GET_CONFIG, 0, &space, 12 + size, NULL, 0);
  reply(front, GET_CONFIG, &space, 12 + size, NULL);
  memcpy(config, space.bytes, size);
}

void front_end_connect(struct front_end *front, double patience) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, front->path, sizeof address.sun_path - 1);
  for (double end = now() + patience;;) {
    front->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (front->socket < 0) fail("socket: %m");
    if (connect(front->socket, (struct sockaddr *)&address, sizeof address) == 0) break;
    close(front->socket);
    if (now() > end) fail("connect %s: %m", front->path);
    usleep(1000);
  }
  uint64_t offered = front_end_ask(front, GET_FEATURES);
  front->features = offered & (front->wanted | FEATURE(F_PROTOCOL_FEATURES));
  front->protocol = 0;
  if (front->features & FEATURE(F_PROTOCOL_FEATURES)) {
    uint64_t protocol = front_end_ask(front, GET_PROTOCOL_FEATURES) & front->protocol_wanted;
    tell_number(front, SET_PROTOCOL_FEATURES, protocol);
    front->protocol = protocol;
  }
  tell(front, SET_OWNER, NULL, 0, NULL, 0);
}

static void share_inflight(struct front_end *front) {
  if (!(front->protocol & FEATURE(PROTOCOL_INFLIGHT))) return;
  if (front->inflight_fd < 0) {
    front->inflight = (struct inflight){0, 0, front->queue_count, front->queues[0].size, 0};
    send_message(front, GET_INFLIGHT_FD, 0, &front->inflight, sizeof front->inflight, NULL, 0);
    reply(front, GET_INFLIGHT_FD, &front->inflight, sizeof front->inflight, &front->inflight_fd);
    if (front->inflight_fd < 0) fail("no descriptor for the inflight area");
  }
  tell(front, SET_INFLIGHT_FD, &front->inflight, sizeof front->inflight, &front->inflight_fd, 1);
}

static uint64_t user_address(const void *host) { return (uint64_t)host; }

void front_end_start(struct front_end *front) {
  tell_number(front, SET_FEATURES, front->features);
  struct {
    uint32_t count, pad;
    struct region regions[2];
  } table = {front->region_count, 0, {front->regions[0], front->regions[1]}};
  int memories[2] = {front->memory, front->memory};
  tell(front, SET_MEM_TABLE, &table, 8 + front->region_count * sizeof(struct region), memories, front->region_count);
  share_inflight(front);
  for (uint32_t i = 0; i < front->queue_count; i++) {
    struct queue *queue = &front->queues[i];
    struct vring *vring = &queue->vring;
    tell_state(front, SET_VRING_NUM, i, queue->size);
    /* what a driver that lost its back end knows: the used index */
    tell_state(front, SET_VRING_BASE, i, vring->used->idx);
    struct vring_place place = {i, 0, user_address(vring->desc), user_address(vring->used), user_address(vring->avail), 0};
    tell(front, SET_VRING_ADDR, &place, sizeof place, NULL, 0);
    uint64_t index = i;
    tell(front, SET_VRING_CALL, &index, sizeof index, &queue->call, 1);
    tell(front, SET_VRING_KICK, &index, sizeof index, &queue->kick, 1);
    if (front->features & FEATURE(F_PROTOCOL_FEATURES)) tell_state(front, SET_VRING_ENABLE, i, 1);
  }
}

void front_end_stop(struct front_end *front) {
  for (uint32_t i = 0; i < front->queue_count; i++) {
    uint32_t state[2] = {i, 0};
    send_message(front, GET_VRING_BASE, 0, state, sizeof state, NULL, 0);
    reply(front, GET_VRING_BASE, state, sizeof state, NULL);
  }
}

void queue_offer(struct queue *queue, uint16_t head) {
  queue->vring.avail->ring[queue->avail_idx++ & (queue->size - 1)] = head;
}

void queue_kick(struct front_end *front, struct queue *queue) {
  if (queue->avail_idx == queue->kicked_idx) return;
  __atomic_store_n(&queue->vring.avail->idx, queue->avail_idx, __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  bool wanted;
  if (front->features & FEATURE(VIRTIO_RING_F_EVENT_IDX)) {
    uint16_t event = __atomic_load_n(&vring_avail_event(&queue->vring), __ATOMIC_RELAXED);
    wanted = vring_need_event(event, queue->avail_idx, queue->kicked_idx);
  } else {
    wanted = !(__atomic_load_n(&queue->vring.used->flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
  }
  queue->kicked_idx = queue->avail_idx;
  if (wanted) eventfd_write(queue->kick, 1);
}

bool queue_used(struct queue *queue, struct vring_used_elem *element) {
  if (queue->used_idx == __atomic_load_n(&queue->vring.used->idx, __ATOMIC_ACQUIRE)) return false;
  *element = queue->vring.used->ring[queue->used_idx++ & (queue->size - 1)];
  return true;
}

bool queue_arm(struct front_end *front, struct queue *queue) {
  if (front->features & FEATURE(VIRTIO_RING_F_EVENT_IDX)) {
    __atomic_store_n(&vring_used_event(&queue->vring), queue->used_idx, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
  }
  return queue->used_idx == __atomic_load_n(&queue->vring.used->idx, __ATOMIC_ACQUIRE);
}

const char *word(int argc, char **argv, const char *name, const char *fallback) {
  size_t length = strlen(name);
  for (int i = 1; i < argc; i++)
    if (!strncmp(argv[i], name, length) && argv[i][length] == '=') return argv[i] + length + 1;
  return fallback;
}

uint64_t number(int argc, char **argv, const char *name, uint64_t fallback) {
  const char *text = word(argc, argv, name, NULL);
  return text ? strtoull(text, NULL, 0) : fallback;
}

double cpu_seconds(int pid) {
  clockid_t clock;
  struct timespec time;
  if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &time)) fail("no CPU time of process %d", pid);
  return time.tv_sec + time.tv_nsec / 1e9;
}

long status_kib(int pid, const char *line) {
  char path[64], text[256];
  snprintf(path, sizeof path, "/proc/%d/status", pid);
  FILE *file = fopen(path, "r");
  if (!file) fail("%s: %m", path);
  long value = -1;
  while (fgets(text, sizeof text, file))
    if (!strncmp(text, line, strlen(line)) && text[strlen(line)] == ':') value = atol(text + strlen(line) + 1);
  fclose(file);
  return value;
}
