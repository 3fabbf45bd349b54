/** How a run ends: its exit status, why, and how far it had come. */
import { ExitCode } from "../../exit-codes.ts";

export const phases = [
  "starting",
  "booting",
  "kernel",
  "login",
  "runner",
  "ready",
  "command",
  "ended",
] as const;
export type Phase = (typeof phases)[number];

/** The word in `--result`. */
export type Reason =
  | "command"
  | "poweroff"
  | "expected"
  | "quit"
  | "timeout"
  | "panic"
  | "fail-on"
  | "expect"
  | "guest-gone"
  | "boot"
  | "interrupted"
  | "usage"
  | "configuration"
  | "no-kvm"
  | "internal";

export interface Verdict {
  readonly status: number;
  /** Whose the status is. */
  readonly by: "guest" | "chv";
  readonly reason: Reason;
  /** One line; undefined where there is nothing to say. */
  readonly message?: string | undefined;
  /** The signal that ended the command. */
  readonly signal?: number | undefined;
  /** What the guest's kernel said when it panicked. */
  readonly panic?: string | undefined;
}

const reasons: Readonly<Record<number, Reason>> = {
  [ExitCode.usage]: "usage",
  [ExitCode.noKvm]: "no-kvm",
  [ExitCode.configuration]: "configuration",
  [ExitCode.bootFailed]: "boot",
  [ExitCode.timeout]: "timeout",
  [ExitCode.guestPanic]: "panic",
  [ExitCode.failOn]: "fail-on",
  [ExitCode.expectNotMet]: "expect",
  [ExitCode.guestGone]: "guest-gone",
};

/** chv's own failure. */
export const failure = (status: number, message: string, more: Partial<Verdict> = {}): Verdict => ({
  ...{ status, by: "chv", reason: reasons[status] ?? "internal", message: oneLine(message) },
  ...more,
});

export const oneLine = (text: string): string => text.replace(/\s+/g, " ").trim();
