/**
 * How chv ends: the one table of exit codes of the whole program, and the two errors that speak of
 * the user's input. docs/exit-codes.md holds the same rows, and a test compares them. Codes below
 * 128 are the shell's and the guest's own (`chv run` hands a command's status on); 128 and more up
 * to 239 are signals, as shells count them.
 */

/** Name, code, meaning: in the order of the codes. */
export const exitCodes = [
  ["ok", 0, "guest power-off, `vmm.shutdown`, SIGTERM of plain `chv`"],
  ["interrupted", 130, "SIGINT"],
  ["usage", 240, "usage: the command line cannot be read"],
  ["noKvm", 241, "no usable KVM"],
  ["configuration", 242, "kernel, image or configuration"],
  ["bootFailed", 243, "boot failed or stalled"],
  ["timeout", 244, "timeout"],
  ["guestPanic", 245, "guest panic"],
  ["failOn", 246, "`--fail-on` matched"],
  ["expectNotMet", 247, "`--expect` not met"],
  ["guestGone", 248, "guest gone before the command ended"],
  ["internal", 249, "chv's own fault"],
] as const;

type Row = (typeof exitCodes)[number];
type Codes = { readonly [R in Row as R[0]]: R[1] };

/** The same rows by name: `ExitCode.usage` is 240. */
export const ExitCode = {} as Codes;
for (const [name, code] of exitCodes) Object.assign(ExitCode, { [name]: code });

/**
 * The text cannot be read: an unknown option or key, a value that is none, an option given twice.
 */
export class UsageError extends Error {
  override readonly name = "UsageError";
  readonly exitCode = ExitCode.usage;
  /** `option` is the option that it speaks of, with its dashes, where there is one. */
  constructor(
    message: string,
    readonly option?: string,
  ) {
    super(message);
  }
}

/**
 * The text reads well, but there is no such machine: values out of range, options that contradict
 * each other.
 */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly exitCode = ExitCode.configuration;
  constructor(
    message: string,
    readonly option?: string,
  ) {
    super(message);
  }
}
