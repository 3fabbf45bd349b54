import { test } from "bun:test";
import { tryRandomRings } from "./random-rings.ts";

test("random rings give what the specification says, or a fault", () => {
  tryRandomRings(2_000);
}, 600_000);
