/** The first import of every worker's entry: its thread compiles late from its first statement on. */
import { compileLate } from "./jit-policy.ts";

compileLate();
