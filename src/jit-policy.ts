/**
 * The executable starts with a compiler that is in no hurry (`jitPolicy` in build.ts): nearly all code of a start runs
 * once, and on two processors the compiler's threads would take time from those who run it. Each thread has a policy of
 * its own, and calls this when what it does over and over begins.
 */
export function compileSoon(): void {
  Bun.unsafe.setJITPolicy(1);
}
