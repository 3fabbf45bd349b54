import { test } from "bun:test";
import { mutate } from "./mutations.ts";

test("a changed image boots, or is an error of a line, within a second", () => {
  mutate(150);
}, 120_000);
