/** How an I/O worker stands still. */
import { expect, test } from "bun:test";
import { Ask, ThreadControl, ThreadState } from "../../src/bus/thread-control.ts";
import { park } from "../../src/machine/io-thread.ts";

function sides(): { main: ThreadControl; worker: ThreadControl } {
  const buffer = new SharedArrayBuffer(ThreadControl.bytesFor(1));
  return { main: new ThreadControl(buffer, 0), worker: new ThreadControl(buffer, 0) };
}

const never = () => {
  throw new Error("test: nobody wakes it any more");
};

test("a worker that is let run while it comes to rest does not wait for a wake-up that it has had", () => {
  const { main, worker } = sides();

  expect(park(worker, () => main.ask(Ask.run), never)).toBe(true);
  expect(main.state).toBe(ThreadState.starting);
});

test("nor does one that is told to leave", () => {
  const { main, worker } = sides();

  expect(park(worker, () => main.ask(Ask.leave), never)).toBe(false);
});

test("asked to park once more meanwhile, it does so", () => {
  const { main, worker } = sides();
  const said: number[] = [];
  const askAgain = () => {
    main.ask(Ask.run);
    main.ask(Ask.park);
  };

  const left = park(worker, askAgain, () => {
    said.push(main.state);
    main.ask(Ask.leave);
  });

  expect([left, ...said]).toEqual([false, ThreadState.parked]);
});
