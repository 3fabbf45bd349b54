import { test } from "bun:test";
import { tryRandomRings } from "../random-rings.ts";

test("random rings give what the specification says, or a fault", () => {
  tryRandomRings(100_000);
}, 600_000);
