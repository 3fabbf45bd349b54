/** What a power-off, a reset or a panic of the guest leads to; each can be chosen. */

/**
 * restart: the same machine starts over. exit: the process ends. keep: the VM is there to be looked at (after a
 * power-off or a reset it is shut down; a guest that panicked is left alone). pause: its vCPUs stand still.
 */
export const reactions = ["restart", "exit", "keep", "pause"] as const;
export type Reaction = (typeof reactions)[number];

export interface Reactions {
  readonly onReboot: Reaction;
  readonly onPoweroff: Reaction;
  readonly onPanic: Reaction;
}
