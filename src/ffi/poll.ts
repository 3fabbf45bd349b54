/** poll(2) of one descriptor, without waiting. */
import { Block } from "./block.ts";
import { libc } from "./libc.ts";

const request = new Block(8);

/** The events of `events` (and error, hang-up) that hold now; the bits are epoll's. */
export function pollEvents(fd: number, events: number): number {
  request.view.setInt32(0, fd, true);
  request.view.setInt16(4, events, true);
  request.view.setInt16(6, 0, true);
  libc.poll(request.address as never, 1, 0);
  return request.view.getInt16(6, true);
}
