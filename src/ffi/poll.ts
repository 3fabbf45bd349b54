/** poll(2) of one descriptor. */
import { Block } from "./block.ts";
import { libc } from "./libc.ts";

const request = new Block(8);

/** The events of `events` (and error, hang-up) that hold now, without waiting; the bits are epoll's. */
export function pollEvents(fd: number, events: number): number {
  request.view.setInt32(0, fd, true);
  request.view.setInt16(4, events, true);
  request.view.setInt16(6, 0, true);
  libc.poll(request.address as never, 1, 0);
  return request.view.getInt16(6, true);
}

const POLLIN = 1;

/** Waits until there is something to read, or an error; false after `timeoutMs`, or a signal. */
export function waitReadable(fd: number, timeoutMs: number): boolean {
  request.view.setInt32(0, fd, true);
  request.view.setInt16(4, POLLIN, true);
  return libc.poll(request.address as never, 1, timeoutMs) > 0;
}
