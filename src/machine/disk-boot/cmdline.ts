/** The command line of a disk's boot entry, as options change it; and the consoles that a command line names. */
import type { VmConfig } from "../config/vm.ts";

/** Appends words to those that are the kernel's: what follows "--" is init's. */
export function appended(cmdline: string, more: string | undefined): string {
  if (more === undefined || more === "") return cmdline;
  const [, own = cmdline, rest = ""] = /^(.*?)(\s--(?:\s.*)?)$/s.exec(cmdline) ?? [];
  return `${own === "" ? "" : `${own} `}${more}${rest}`;
}

/** The names that `console=` gives, in order, without their options. */
const consolesOf = (cmdline: string): string[] =>
  cmdline
    .split(/\s--(?:\s|$)/)[0]!
    .split(/\s+/)
    .flatMap((word) => /^console=([^,]+)/.exec(word)?.[1] ?? []);

/**
 * The device that goes to the terminal where the user leaves that open: the one that the kernel's messages go to. A
 * firmware speaks on the serial port.
 */
export function withConsole(config: VmConfig, cmdline: string): VmConfig {
  if (!config.auto_console) return config;
  const named = consolesOf(cmdline).findLast((name) => name === "ttyS0" || name === "hvc0");
  const usual = config.payload.firmware === undefined ? "hvc0" : "ttyS0";
  if ((named ?? usual) !== "ttyS0") return config;
  return {
    ...config,
    serial: { ...config.serial, mode: "Tty" },
    console: { ...config.console, mode: "Null" },
  };
}

/** A warning for each console that somebody listens to and the command line does not name. */
export function silentConsoles(config: VmConfig, cmdline: string): string[] {
  const named = consolesOf(cmdline);
  const open = ({ mode }: { mode: string }) => mode !== "Off" && mode !== "Null";
  const warning = (option: string, name: string) =>
    `${option}: the command line names no console=${name}, so the kernel will say nothing there; ` +
    `add it with --cmdline-append console=${name}`;
  const serial = open(config.serial);
  const heard = serial && named.includes("ttyS0");
  return [
    ...(serial && !heard ? [warning("--serial", "ttyS0")] : []),
    // the console is on the terminal unless something else is said
    ...(open(config.console) && !heard && !named.includes("hvc0")
      ? [warning("--console", "hvc0")]
      : []),
  ];
}
