/** Signals that come by a pipe. */
import { expect, test } from "bun:test";
import { pollEvents } from "../../src/ffi/poll.ts";
import { SignalPipe } from "../../src/ffi/signal-pipe.ts";

const [SIGUSR2, SIGWINCH] = [12, 28];
const POLLIN = 1;

/** Kept out of the runtime's event loop, where a signal would wait for a turn. */
function send(name: NodeJS.Signals): void {
  process.kill(process.pid, name);
}

test("a signal makes the pipe readable, and is taken by its number, once", () => {
  const pipe = new SignalPipe([SIGUSR2, SIGWINCH]);
  expect(pipe.take()).toBe(0);
  expect(pollEvents(pipe.fd, POLLIN)).toBe(0);

  send("SIGUSR2");
  send("SIGWINCH");

  expect(pollEvents(pipe.fd, POLLIN)).toBe(POLLIN);
  expect([pipe.take(), pipe.take()].sort()).toEqual([SIGUSR2, SIGWINCH]);
  expect(pipe.take()).toBe(0);
  pipe.close();
});

test("more signals than a pipe holds are no harm", () => {
  const pipe = new SignalPipe([SIGUSR2]);

  for (let i = 0; i < 20_000; i++) send("SIGUSR2");

  expect(pipe.take()).toBe(SIGUSR2);
  pipe.close();
});
