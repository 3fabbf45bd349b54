/** The entry: threads that will be needed start at once, and load their code while the main thread loads its own. */
import "./machine/spare-thread.ts";

await import("./cli/main.ts");
