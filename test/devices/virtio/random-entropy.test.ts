import { test } from "bun:test";
import { tryRandomEntropy } from "./random-entropy.ts";

test("random requests for entropy are filled as the specification says", () => {
  tryRandomEntropy(2_000);
}, 600_000);
