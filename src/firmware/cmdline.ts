/**
 * The kernel command line: its bytes, its length limit, and the few options that a loader has to
 * honour.
 */
import { KernelError } from "./kernel-error.ts";

/**
 * What Linux on x86 keeps (COMMAND_LINE_SIZE, 2048) less the final NUL, for kernels that do not
 * say.
 */
export const defaultCmdlineLimit = 2047;

/**
 * The command line as the guest gets it, with its final NUL; a KernelError when the kernel would
 * cut it.
 */
export function encodeCmdline(cmdline: string, limit: number): Uint8Array {
  const text = new TextEncoder().encode(cmdline);
  if (text.length > limit) {
    throw new KernelError(
      `Command line: it has ${text.length} bytes, the kernel takes at most ${limit}; shorten it`,
    );
  }
  if (text.includes(0)) {
    throw new KernelError(
      "Command line: it contains a NUL byte, where the kernel would stop reading; remove it",
    );
  }
  const bytes = new Uint8Array(text.length + 1);
  bytes.set(text);
  return bytes;
}

/** Whether a word of the command line is `name`, or starts with `name=`. */
export function hasOption(cmdline: string, name: string): boolean {
  if (!cmdline.includes(name)) return false;
  return cmdline.split(/\s+/).some((word) => word === name || word.startsWith(`${name}=`));
}
