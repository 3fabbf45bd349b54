/** What chv and the runner say to each other, with the guest's end of the channel in the test's hand. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import fc from "fast-check";
import { Session } from "../../../src/cli/run/session.ts";
import { Block } from "../../../src/ffi/block.ts";
import { readSome, writeAll } from "../../../src/ffi/file.ts";

const job = { argv: ["a", "ü\n"], env: { A: "1" }, user: "me", sync: false };
/** A fuse: what takes so long does not come. */
const deadlineMs = 300_000;
let log: string[] = [];
let session: Session;
let guest = -1;
const block = new Block(4096);

beforeEach(async () => {
  log = [];
  session = new Session(job, {
    runnerThere: () => void log.push("there"),
    bootOver: () => void log.push("ready"),
    started: () => void log.push("started"),
    ended: (ended) => void log.push(JSON.stringify(ended)),
    lost: (why) => void log.push(`lost: ${why}`),
  });
  guest = session.channel.ports[0]!.fds!.in!;
  await session.channel.open();
});
afterEach(() => session.channel.close());

async function until(so: () => boolean): Promise<void> {
  const end = Date.now() + deadlineMs;
  while (!so()) {
    if (Date.now() > end) throw new Error(`not in time; so far: ${log.join(", ")}`);
    await Bun.sleep(1);
  }
}

/** The guest says something; waits until chv has taken it. */
async function say(text: string | Uint8Array): Promise<void> {
  const bytes = typeof text === "string" ? Buffer.from(text) : text;
  const before = session.channel.received;
  writeAll(guest, bytes);
  await until(() => session.channel.received === before + bytes.length);
}

/** What chv has said, to its line's end. */
async function heard(): Promise<string> {
  let text = "";
  await until(() => {
    const count = readSome(guest, block.address, 4096);
    if (count > 0) text += Buffer.from(block.bytes.subarray(0, count)).toString();
    return text.endsWith("\n");
  });
  return text;
}

test("a run from the first word to the last", async () => {
  await say("\nhel");
  await say("lo 1\nready\n");
  expect(JSON.parse(await heard())).toEqual(job);
  await say("started 12\n");
  session.signal(2);
  expect(await heard()).toBe("signal 2\n");
  await say("killed 2 30 4\n");

  const end = '{"status":130,"signal":2,"outputBytes":34,"output":30,"error":4}';
  expect(log).toEqual(["there", "ready", "started", end]);
  session.powerOff();
  expect(await heard()).toBe("poweroff\n");
});

test("a signal that comes before the command has started is handed on then", async () => {
  await say("hello 1\nready\n");
  await heard();
  session.signal(15);
  await say("started 12\n");

  expect(await heard()).toBe("signal 15\n");
});

test("a guest that starts over before the command is greeted anew, and later is lost", async () => {
  await say("hello 1\nrea");
  session.beginLife();
  await say("hello 1\nready\n");
  expect(log).toEqual(["there", "there", "ready"]);
  await say("hello 1\n");

  expect(log.at(-1)).toBe("lost: the runner in the guest has started over");
});

test.each([["exited 256 0 0"], ["killed 65 0 0"], ["exited"], ["exited 1 2"], ["exited -1 0 0"]])(
  "%j is said by no runner",
  async (line) => {
    await say(`hello 1\nready\nstarted 1\n${line}\n`);

    expect(log.at(-1)).toBe("lost: the runner in the guest says what no runner says");
  },
);

test("out of turn, words mean nothing", async () => {
  await say("ready\nstarted 1\nexited 0 0 0\nkilled 9 0 0\n\n \nhello\n");

  expect(log).toEqual(["there"]);
});

test("whatever comes is taken, and what is kept of it has an end", async () => {
  const word = fc.constantFrom("hello 1", "ready", "started", "exited 0 0 0", "killed", "\n", " ");
  const piece = fc.oneof(
    word.map((text) => Buffer.from(text)),
    fc.uint8Array({ minLength: 1, maxLength: 200 }),
  );
  await fc.assert(
    fc.asyncProperty(piece, async (bytes) => {
      await say(bytes);
      while (readSome(guest, block.address, 4096) > 0);
    }),
    { numRuns: 100 },
  );
});
