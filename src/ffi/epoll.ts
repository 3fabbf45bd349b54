/** epoll(7) over one fixed table of events, and timerfd_create(2) on the monotonic clock. */
import { Block } from "./block.ts";
import { check, Errno, errno, libc, SystemError } from "./libc.ts";

// sys/epoll.h
export const Epoll = {
  ...{ in: 1, out: 4, error: 8, hangUp: 16, readHangUp: 0x2000 },
  /** Told once for each time that it becomes so, not for as long as it is. */
  edge: 0x8000_0000,
} as const;
const EPOLL_CLOEXEC = 0o2000000;
const [EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD] = [1, 2, 3];
const eventSize = 12; // struct epoll_event is packed on x86-64: u32 events, u64 data
const capacity = 64;

/** A set of descriptors to wait on. Each carries a token, a number below 2^32 that comes back with its events. */
export class EpollSet {
  readonly fd = check(libc.epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  readonly #events = new Block(eventSize * capacity);
  readonly #argument = new Block(eventSize);

  add(fd: number, events: number, token: number): void {
    check(this.#control(EPOLL_CTL_ADD, fd, events, token), "epoll_ctl(ADD)");
  }

  modify(fd: number, events: number, token: number): void {
    check(this.#control(EPOLL_CTL_MOD, fd, events, token), "epoll_ctl(MOD)");
  }

  remove(fd: number): void {
    this.#control(EPOLL_CTL_DEL, fd, 0, 0);
  }

  /** Waits at most `timeoutMs` (-1: for ever); the number of events, which `tokenAt` and `eventsAt` tell. */
  wait(timeoutMs: number): number {
    const count = libc.epoll_wait(this.fd, this.#events.address as never, capacity, timeoutMs);
    if (count < 0) {
      if (errno() === Errno.EINTR) return 0;
      throw new SystemError("epoll_wait");
    }
    return count;
  }

  tokenAt(index: number): number {
    return this.#events.view.getUint32(index * eventSize + 4, true);
  }

  eventsAt(index: number): number {
    return this.#events.view.getUint32(index * eventSize, true);
  }

  close(): void {
    libc.close(this.fd);
  }

  #control(operation: number, fd: number, events: number, token: number): number {
    this.#argument.view.setUint32(0, events, true);
    this.#argument.view.setUint32(4, token, true);
    return libc.epoll_ctl(this.fd, operation, fd, this.#argument.address as never);
  }
}

const CLOCK_MONOTONIC = 1;
const TFD_CLOEXEC = 0o2000000;
const TFD_NONBLOCK = 0o4000;
const TFD_TIMER_ABSTIME = 1;
const timerSpec = new Block(32);

export function createTimerfd(): number {
  const fd = libc.timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  return check(fd, "timerfd_create");
}

/** Arms the timer for a moment on the monotonic clock, in ns; 0 disarms. Any thread may. */
export function armTimerfd(fd: number, deadlineNs: number): void {
  const view = timerSpec.view;
  view.setUint32(16, Math.floor(deadlineNs / 1e9), true);
  view.setUint32(24, Math.floor(deadlineNs % 1e9), true);
  libc.timerfd_settime(fd, TFD_TIMER_ABSTIME, timerSpec.address as never, null);
}
