/**
 * Nearly all code of a start runs once, and on two processors the compiler's threads would take time from those who run
 * it. So the compiler is in no hurry at first: the executable starts the main thread so (`jitPolicy` in build.ts), and
 * every thread asks for it (src/compile-late.ts), since each has a policy of its own.
 */
export function compileLate(): void {
  Bun.unsafe.setJITPolicy(10);
}

/** Each thread calls this when what it does over and over begins. */
export function compileSoon(): void {
  Bun.unsafe.setJITPolicy(1);
}
