/** Why the VMM does not do what it is asked: not the configuration's fault (ConfigError), nor the host's. */

export type Refusal =
  /** There is no VM. */
  | "absent"
  /** There is one already, or it is in a state in which this cannot be done. */
  | "state"
  /** It is part of the interface, and not built. */
  | "unbuilt"
  /** It did not happen in the time given. */
  | "timeout"
  /** It cannot happen any more: the guest ended, failed or started over first. */
  | "missed";

export class VmmError extends Error {
  override readonly name = "VmmError";
  constructor(
    readonly refusal: Refusal,
    message: string,
  ) {
    super(message);
  }
}
