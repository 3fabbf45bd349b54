/** Loaded before tests: a lab that they started is stopped after the last one. Bun's test runner has no "exit" event. */

import { afterAll } from "bun:test";
import { releaseLab } from "./run.ts";

const timeoutMs = 30_000;

afterAll(releaseLab, timeoutMs);
