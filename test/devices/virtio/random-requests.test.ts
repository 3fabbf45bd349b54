import { test } from "bun:test";
import { tryRandomRequests } from "./random-requests.ts";

test.each([
  ["io_uring", true],
  ["preadv2 and pwritev2", false],
])(
  "random requests by %s are answered as the specification says",
  (_, uring) => {
    tryRandomRequests(2_000, uring);
  },
  600_000,
);
