/** The first import of every thread's entry: it compiles late from its first statement on. */
import { compileLate } from "./jit-policy.ts";

compileLate();
