/** Taking devices from their driver: what it had put into their queues before is seen first. */
import { expect, test } from "bun:test";
import { Lock } from "../../src/bus/lock.ts";
import { quiesce } from "../../src/machine/quiesce.ts";

test("a worker that is late sees that the driver was ready, before it sees that it is not", async () => {
  const seen: string[] = [];
  const wanted: string[] = ["start"];
  const transport = {
    writeStatus: (status: number) => wanted.push(`status ${status}`),
    // the worker: at each look it does the next thing that is wanted, as it is then
    handOver: {
      get settled(): boolean {
        if (wanted.length === 0) return true;
        seen.push(wanted.pop()!);
        wanted.length = 0;
        return false;
      },
    },
  };
  const lock = new Lock(new Int32Array(new SharedArrayBuffer(4)), 0);
  const device = { device: { transport }, lock, spec: { id: "__console" } };
  await quiesce([device as never], { failed: false } as never);

  expect(seen).toEqual(["start", "status 0"]);
});
