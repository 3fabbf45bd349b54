import { test } from "bun:test";
import { tryRandomCommands, tryRandomReceiving, tryRandomTransmitting } from "./random-frames.ts";

test("random buffers receive what the specification says", () => tryRandomReceiving(600));
test("random frames leave as the specification says", () => tryRandomTransmitting(800));
test("random commands are answered, and do no harm", () => tryRandomCommands(600));
