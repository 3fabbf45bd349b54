/** The backlog against a list that forgets its oldest. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { Block } from "../../../src/ffi/block.ts";
import { copyFrom } from "../../../src/ffi/memory.ts";
import { Backlog } from "../../../src/machine/console/backlog.ts";

test("keeps the last bytes in order, and hands them out in pieces", () => {
  const size = 16;
  const command = fc.record({ append: fc.uint8Array({ maxLength: 40 }), drop: fc.nat(size) });
  fc.assert(
    fc.property(fc.array(command), (commands) => {
      const backlog = new Backlog(size);
      let model: number[] = [];
      for (const { append, drop } of commands) {
        const block = new Block(append.length + 1);
        block.bytes.set(append);
        backlog.append(block.address, append.length);
        model = [...model, ...append].slice(-size);
        expect(backlog.length).toBe(model.length);

        const piece = copyFrom(backlog.address, backlog.contiguous);
        expect(piece.length > 0).toBe(model.length > 0);
        expect([...piece]).toEqual(model.slice(0, piece.length));
        const taken = Math.min(drop, piece.length);
        backlog.drop(taken);
        model = model.slice(taken);
      }
    }),
  );
});
