import { test } from "bun:test";
import { mutate } from "../mutations.ts";

const hour = 3_600_000;

test(
  "a changed image boots, or is an error of a line, soon: 100,000 of them",
  () => {
    mutate(100_000);
  },
  hour,
);
