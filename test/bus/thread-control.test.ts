/** How the main thread asks and a worker answers. */
import { expect, test } from "bun:test";
import { Ask, ThreadControl, ThreadState } from "../../src/bus/thread-control.ts";
import { hammer } from "./threads.ts";

const { parked, running, gone, failed } = ThreadState;
const patienceMs = 10_000;

/** Both sides of thread `thread`. */
function sides(thread = 0): { main: ThreadControl; worker: ThreadControl } {
  const buffer = new SharedArrayBuffer(ThreadControl.bytesFor(3));
  return { main: new ThreadControl(buffer, thread), worker: new ThreadControl(buffer, thread) };
}

test("a fresh thread is asked to park, and has said nothing", async () => {
  const { main, worker } = sides();

  expect(worker.asked).toBe(Ask.park);
  expect(worker.threadId).toBe(0);
  expect(await main.reaches([parked, running, gone], 1)).toBeUndefined();
});

test("threads do not hear each other", () => {
  const buffer = new SharedArrayBuffer(ThreadControl.bytesFor(3));
  const controls = [0, 1, 2].map((thread) => new ThreadControl(buffer, thread));

  controls[1]!.ask(Ask.leave);
  controls[1]!.threadId = 77;

  expect(controls.map(({ asked }) => asked)).toEqual([Ask.park, Ask.leave, Ask.park]);
  expect(controls.map(({ threadId }) => threadId)).toEqual([0, 77, 0]);
});

test("what is said resolves whoever waits for it, and nobody else", async () => {
  const { main, worker } = sides(2);
  const asked = [main.ask(Ask.run), worker.asked][1];
  const isRunning = main.reaches([running], patienceMs);
  const isParked = main.reaches([parked], 50);

  worker.say(running);

  expect(asked).toBe(Ask.run);
  expect(await isRunning).toBe(running);
  expect(await isParked).toBeUndefined();
});

test("an answer to an earlier request is none to this one", async () => {
  const { main, worker } = sides();
  worker.asked;
  worker.say(parked);

  main.ask(Ask.run);
  expect(worker.asked).toBe(Ask.run); // the thread is on its way in
  main.ask(Ask.park);
  expect(await main.reaches([parked], 20)).toBeUndefined();

  worker.say(running);
  expect(await main.reaches([parked], 20)).toBeUndefined();
  expect(worker.asked).toBe(Ask.park);
  worker.say(parked);
  expect(await main.reaches([parked], patienceMs)).toBe(parked);
});

test("a thread parks itself, but not over a request that it has not read yet", () => {
  const { main, worker } = sides();
  main.ask(Ask.run);
  worker.asked;
  worker.askSelfToPark();
  expect(worker.asked).toBe(Ask.park);

  main.ask(Ask.run);
  worker.asked;
  main.ask(Ask.leave);
  worker.askSelfToPark();
  expect(worker.asked).toBe(Ask.leave);

  main.ask(Ask.load);
  expect(worker.asked).toBe(Ask.load);
  worker.askSelfToPark(Ask.load);
  expect(worker.asked).toBe(Ask.park); // and does not load once more when it is woken for nothing
});

test("a failure answers every request", async () => {
  const { main, worker } = sides();
  worker.say(failed);
  main.ask(Ask.park);

  expect(await main.reaches([parked], patienceMs)).toBe(failed);
});

test("last words take the thread's id back", () => {
  for (const last of [gone, failed]) {
    const { main, worker } = sides();
    worker.threadId = 123;
    worker.say(running);
    expect(main.threadId).toBe(123);

    worker.say(last);
    expect(main.threadId).toBe(0);
  }
});

test("requests are counted past their number's end", async () => {
  const buffer = new SharedArrayBuffer(ThreadControl.bytesFor(1));
  new Int32Array(buffer)[0] = -8; // the last number, 2^29 - 1, and Ask.park
  const control = new ThreadControl(buffer, 0);

  control.ask(Ask.leave);
  expect(control.asked).toBe(Ask.leave);
  control.say(gone);

  expect(new Int32Array(buffer)[0]).toBe(Ask.leave);
  expect(await control.reaches([gone], patienceMs)).toBe(gone);
});

test("a real thread that is told to run and park in quick turns is out whenever it is said to be", async () => {
  const buffer = new SharedArrayBuffer(ThreadControl.bytesFor(1));
  const bell = new Int32Array(new SharedArrayBuffer(64));
  const main = new ThreadControl(buffer, 0);
  const thread = hammer({ do: "obey", buffer, bell: bell.buffer as SharedArrayBuffer });
  const ask = (what: number) => {
    main.ask(what);
    Atomics.add(bell, 0, 1);
    Atomics.notify(bell, 0);
  };
  const inside: number[] = [];

  expect(await main.reaches([parked], patienceMs)).toBe(parked);
  for (let i = 0; i < 300; i++) {
    ask(Ask.run);
    if (i % 3 === 0) await main.reaches([running], patienceMs);
    ask(Ask.park);
    expect(await main.reaches([parked], patienceMs)).toBe(parked);
    const runs = Atomics.load(bell, 1);
    inside.push(Atomics.load(bell, 2), Atomics.load(bell, 1) - runs);
  }
  ask(Ask.leave);
  await thread;

  expect(inside.every((value) => value === 0)).toBe(true);
  expect(await main.reaches([gone], patienceMs)).toBe(gone);
  expect(main.threadId).toBe(0);
});

test("who waits for a thread's start goes on when that has said its first word, and not before", async () => {
  const buffer = new SharedArrayBuffer(ThreadControl.bytesFor(1));
  const bell = new Int32Array(new SharedArrayBuffer(64));
  const first = new ThreadControl(buffer, 0);
  const waiting = hammer({ do: "await", buffer, bell: bell.buffer as SharedArrayBuffer });
  await Atomics.waitAsync(bell, 0, 0).value;
  await hammer({ do: "count", buffer: new SharedArrayBuffer(128), times: 1 }); // time to go on, if it did not wait

  first.say(running);
  await waiting;
  expect(Atomics.load(bell, 1)).toBe(running);

  await hammer({ do: "await", buffer, bell: bell.buffer as SharedArrayBuffer });
  expect(Atomics.load(bell, 1)).toBe(running);
});
