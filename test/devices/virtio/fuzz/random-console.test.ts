import { test } from "bun:test";
import { tryRandomConsole } from "../random-console.ts";

test("random chains in a console's queues do what the specification says", () => {
  tryRandomConsole(100_000);
}, 600_000);
