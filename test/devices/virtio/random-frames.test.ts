import { test } from "bun:test";
import { tryRandomCommands, tryRandomReceiving, tryRandomTransmitting } from "./random-frames.ts";

test("random buffers receive what the specification says", () => tryRandomReceiving(400));
test("random frames leave as the specification says", () => tryRandomTransmitting(1000));
test("random commands are answered, and do no harm", () => tryRandomCommands(600));
