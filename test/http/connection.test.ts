/** One client of the socket that asks faster than it reads. */
import { afterEach, expect, test } from "bun:test";
import { readSync, writeSync } from "node:fs";
import { close } from "../../src/ffi/file.ts";
import { socketPair } from "../../src/ffi/unix-socket.ts";
import { Connection, requestTimeoutNs } from "../../src/http/server/connection.ts";

const open: { close(): void }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

const request = "GET /x HTTP/1.1\r\n\r\n";
const kibibytes = (count: number) => new Uint8Array(count * 1024).fill(0x78);

/** A connection with so many requests sent ahead: what answers them, and what reads. */
function asked(count: number, body: Uint8Array) {
  const [ours, theirs] = socketPair();
  const connection = new Connection(ours);
  open.push(connection, { close: () => close(theirs) });
  writeSync(theirs, request.repeat(count));
  let arrived = connection.read(1);
  return {
    connection,
    theirs,
    /** Answers while there is something to answer: how often. */
    answers(nowNs: number): number {
      let answered = 0;
      arrived ??= connection.next(nowNs);
      for (; arrived; arrived = connection.next(nowNs)) {
        connection.answer({ status: 200, headers: [], body });
        answered++;
      }
      return answered;
    },
    /** Takes all that is there to be read: how many bytes. */
    reads(): number {
      const into = new Uint8Array(2 ** 20);
      let all = 0;
      for (;;) {
        connection.write();
        try {
          const count = readSync(theirs, into);
          if (count === 0) return all;
          all += count;
        } catch (error) {
          if ((error as { code?: string }).code !== "EAGAIN") throw error;
          return all;
        }
      }
    },
  };
}

test("it is not answered on while it is far behind, and gets every answer once it reads", () => {
  const { answers, reads } = asked(100, kibibytes(64));

  const first = answers(2);
  expect(first).toBeLessThan(20); // 256 KiB, and what the kernel takes
  expect(answers(3)).toBe(0);

  let [answered, bytes] = [first, reads()];
  for (let more = answers(4); more > 0; more = answers(4)) {
    answered += more;
    bytes += reads();
  }
  expect(answered).toBe(100);
  expect(bytes).toBeGreaterThan(100 * 64 * 1024);
});

test("the time in which it did not read is not held against its next request", () => {
  const { connection, theirs, answers, reads } = asked(1, kibibytes(1024));
  expect(answers(2)).toBe(1);
  writeSync(theirs, request.slice(0, 5)); // half of one more
  connection.read(3);

  connection.expire(requestTimeoutNs + 10); // it has not been looked at yet
  expect(connection.over(requestTimeoutNs + 10)).toBe(false);
  reads();
  const late = requestTimeoutNs + 20;
  expect(answers(late)).toBe(0); // the half is looked at
  connection.expire(late + 1);
  expect(reads()).toBe(0); // no 408
  connection.expire(late + requestTimeoutNs + 1);
  expect(reads()).toBeGreaterThan(0);
});
