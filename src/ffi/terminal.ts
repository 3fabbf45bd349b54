/**
 * Terminals: raw mode with the way back, pseudo-terminals, and a non-blocking description of an inherited descriptor.
 */
import { Block } from "./block.ts";
import { close, duplicate, Open, open } from "./file.ts";
import { check, libc, SystemError } from "./libc.ts";
import { terminalLibc } from "./libc-late.ts";

const termiosBytes = 60; // struct termios of glibc, x86-64
const TCSANOW = 0;
const outputFlagsOffset = 4; // c_oflag
const OPOST = 1;
// asm-generic/ioctls.h
const TIOCGWINSZ = 0x5413;

export const isTerminal = (fd: number): boolean => terminalLibc().isatty(fd) === 1;

/** The size of a terminal's window; undefined when it is no terminal. */
export function windowSize(fd: number): { columns: number; rows: number } | undefined {
  const size = new Block(8); // struct winsize: rows, columns, and both in pixels, 16 bits each
  if (libc.ioctl(fd, TIOCGWINSZ, size.address) < 0) return undefined;
  return { columns: size.view.getUint16(2, true), rows: size.view.getUint16(0, true) };
}

/**
 * Puts a terminal into raw mode; the function that comes back restores it, as often as called. Output processing stays
 * on where people read (a line feed begins a line), and goes off with `{ output: true }`.
 */
export function rawMode(fd: number, { output = false } = {}): () => void {
  const former = new Block(termiosBytes);
  check(terminalLibc().tcgetattr(fd, former.bytes), "tcgetattr");
  const raw = new Block(termiosBytes);
  raw.bytes.set(former.bytes);
  terminalLibc().cfmakeraw(raw.bytes);
  if (!output) {
    raw.view.setUint32(
      outputFlagsOffset,
      raw.view.getUint32(outputFlagsOffset, true) | OPOST,
      true,
    );
  }
  check(terminalLibc().tcsetattr(fd, TCSANOW, raw.bytes), "tcsetattr");
  return () => {
    terminalLibc().tcsetattr(fd, TCSANOW, former.bytes);
  };
}

/** A pseudo-terminal: its master, non-blocking, and the path that a client opens. */
export function openPty(): { master: number; path: string } {
  const flags = Open.readWrite | Open.noControllingTerminal | Open.nonBlock | Open.cloexec;
  const master = check(terminalLibc().posix_openpt(flags), "posix_openpt");
  try {
    check(terminalLibc().grantpt(master), "grantpt");
    check(terminalLibc().unlockpt(master), "unlockpt");
    const name = new Block(64);
    const error = terminalLibc().ptsname_r(master, name.bytes, name.bytes.length);
    if (error !== 0) throw new SystemError("ptsname_r", error);
    const path = new TextDecoder().decode(name.bytes.subarray(0, name.bytes.indexOf(0)));
    prepareSlave(path);
    return { master, path };
  } catch (error) {
    close(master);
    throw error;
  }
}

/**
 * Raw both ways from the start (no echo of the guest's output back to it, no changes to what a client sends), and a
 * hang-up on the master until a client comes.
 */
function prepareSlave(path: string): void {
  const slave = open(path, Open.readWrite | Open.noControllingTerminal);
  try {
    rawMode(slave, { output: true });
  } finally {
    close(slave);
  }
}

/**
 * A descriptor of our own, non-blocking, for what an inherited one is open on, so that the flag does not reach the
 * processes that share the inherited one. Where that cannot be (a socket, another user's terminal, a regular file whose
 * offset would be lost), a plain duplicate comes back.
 */
export function ownNonBlocking(fd: number, access: number, regular: boolean): number {
  const copy = duplicate(fd);
  if (regular) return copy;
  try {
    const own = open(`/proc/self/fd/${fd}`, access | Open.nonBlock | Open.noControllingTerminal);
    close(copy);
    return own;
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    return copy;
  }
}
