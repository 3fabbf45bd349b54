import { test } from "bun:test";
import { tryRandomCommands, tryRandomReceiving, tryRandomTransmitting } from "../random-frames.ts";

const limitMs = 600_000;
test(
  "random buffers receive what the specification says",
  () => tryRandomReceiving(35_000),
  limitMs,
);
test("random frames leave as the specification says", () => tryRandomTransmitting(35_000), limitMs);
test("random commands are answered, and do no harm", () => tryRandomCommands(30_000), limitMs);
