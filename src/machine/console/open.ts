/**
 * Opens the far end of a character device, on the main thread: terminal, file, pty or socket; and puts it back at the
 * end.
 */
import { ConfigError } from "../../exit-codes.ts";
import { createEventfd, signalEventfd } from "../../ffi/eventfd.ts";
import { close, duplicate, link, Open, open, statusFlags, unlink } from "../../ffi/file.ts";
import { statusOf } from "../../ffi/file-status.ts";
import { SystemError } from "../../ffi/libc.ts";
import { isTerminal, openPty, ownNonBlocking, rawMode, windowSize } from "../../ffi/terminal.ts";
import { isStaleSocket, listenUnix, socketPathMax } from "../../ffi/unix-socket.ts";
import type { VmConfig } from "../config/vm.ts";
import { storeSize } from "./size.ts";
import type { FarEndSpec } from "./spec.ts";

const [stdin, stdout] = [0, 1];

/** A console that is open: what the worker needs, words for the user, and the way back. */
export interface OpenConsole {
  readonly spec: FarEndSpec;
  /** A pty's path, for the user to open. */
  readonly path?: string;
  /** The terminal's window may have changed its size. */
  resized(): void;
  /** Restores the terminal; may be called at any time, any number of times. */
  restore(): void;
  close(): void;
}

interface Opened {
  readonly outFd?: number;
  readonly inFd?: number;
  readonly listenFd?: number;
  readonly escapeKeys?: boolean;
  /** The terminal whose size counts. */
  readonly terminal?: number;
  readonly path?: string;
  readonly restore?: () => void;
  readonly remove?: () => void;
}

/** What of a device's configuration says where its far end is. */
export type FarEndConfig = Pick<VmConfig["serial"], "mode" | "file" | "socket"> & {
  readonly fds?:
    | { readonly in?: number | undefined; readonly out?: number | undefined }
    | undefined;
};

/**
 * Throws ConfigError naming the option; undefined when the device is off. `option` is "--serial", "--console" or
 * "--port NAME".
 */
export function openConsole(option: string, config: FarEndConfig): OpenConsole | undefined {
  if (config.mode === "Off") return undefined;
  const end = openFarEnd(option, config);
  const { outFd = -1, inFd = -1, listenFd = -1, escapeKeys = false, restore = () => {} } = end;
  const size = end.terminal === undefined ? undefined : sizeOf(end.terminal);
  const outKind = outFd >= 0 ? kindOf(outFd) : undefined;
  const canWait = outFd >= 0 && (statusFlags(outFd) & Open.nonBlock) === 0;
  const spec: FarEndSpec = {
    name: option.slice(2),
    mode: (config.fds ? "tty" : config.mode.toLowerCase()) as FarEndSpec["mode"],
    leavesAtEnd: config.fds !== undefined && config.fds.out === undefined,
    ...{ outFd, inFd, listenFd, escapeKeys, size: size?.spec },
    outKind,
    outBlocks: canWait && outKind !== "socket" && !isFile(outFd),
  };
  return {
    spec,
    ...(end.path === undefined ? {} : { path: end.path }),
    resized: size?.resized ?? (() => {}),
    restore,
    close() {
      restore();
      for (const fd of new Set([outFd, inFd, listenFd, size?.spec.fd ?? -1])) {
        if (fd >= 0) close(fd);
      }
      end.remove?.();
    },
  };
}

/** The size of the terminal that is open as `fd`, kept for the worker. */
function sizeOf(fd: number) {
  const spec = { word: new SharedArrayBuffer(4), fd: createEventfd() };
  const store = () => {
    const size = windowSize(fd);
    if (size) storeSize(spec, size);
  };
  store();
  return {
    spec,
    resized() {
      store();
      signalEventfd(spec.fd);
    },
  };
}

function openFarEnd(option: string, config: FarEndConfig): Opened {
  try {
    if (config.fds) return openDescriptors(config.fds);
    switch (config.mode) {
      case "Tty":
        return openTerminal();
      case "File":
        return { outFd: openOutput(config.file!) };
      case "Pty": {
        const { master, path } = openPty();
        return { outFd: master, inFd: master, path };
      }
      case "Socket":
        return openSocket(config.socket!);
      default:
        return {};
    }
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const where = config.file ?? config.socket ?? config.mode.toLowerCase();
    throw new ConfigError(`${option} ${where}: ${error.reason}; ${advice(error.code)}`, option);
  }
}

/** Descriptors of their own, whatever becomes of those. */
function openDescriptors(fds: NonNullable<FarEndConfig["fds"]>): Opened {
  const outFd = fds.out === undefined ? -1 : duplicate(fds.out);
  try {
    return { outFd, inFd: fds.in === undefined ? -1 : duplicate(fds.in) };
  } catch (error) {
    if (outFd >= 0) close(outFd);
    throw error;
  }
}

function advice(code: string): string {
  if (code === "EADDRINUSE") return "name a path where nothing is, and nobody listens";
  if (code === "ENXIO") return "open the pipe's reading end first";
  return "name a path in a folder that this user may write";
}

/** Standard input and output. A terminal on standard input goes into raw mode. */
function openTerminal(): Opened {
  let [outFd, inFd] = [-1, -1];
  try {
    if (hasDescriptor(stdout)) outFd = ownNonBlocking(stdout, Open.writeOnly, isFile(stdout));
    if (hasDescriptor(stdin)) inFd = ownNonBlocking(stdin, Open.readOnly, isFile(stdin));
    const typed = inFd >= 0 && isTerminal(stdin);
    const shown = outFd >= 0 && isTerminal(stdout);
    return {
      ...{ outFd, inFd, escapeKeys: typed },
      ...(shown || typed ? { terminal: shown ? stdout : stdin } : {}),
      ...(typed ? { restore: rawMode(stdin) } : {}),
    };
  } catch (error) {
    for (const fd of [outFd, inFd]) if (fd >= 0) close(fd);
    throw error;
  }
}

/** A named pipe must have its reader: waiting for one would hold up everything. */
function openOutput(path: string): number {
  const flags = Open.writeOnly | Open.create | Open.truncate | Open.nonBlock;
  return open(path, flags | Open.noControllingTerminal, 0o644);
}

const hasDescriptor = (fd: number): boolean => statusFlags(fd) >= 0;
const isFile = (fd: number): boolean => statusOf(fd).kind === "file";

function kindOf(fd: number): FarEndSpec["outKind"] {
  const { kind } = statusOf(fd);
  return kind === "socket" || kind === "pipe" ? kind : undefined;
}

function openSocket(path: string): Opened {
  let listenFd: number;
  try {
    listenFd = listenAt(path);
  } catch (error) {
    if (!(error instanceof SystemError && error.code === "EADDRINUSE" && isStaleSocket(path))) {
      throw error;
    }
    unlink(path);
    listenFd = listenAt(path);
  }
  return { listenFd, remove: () => removeQuietly(path) };
}

/** Listens before the name is there: who sees it can connect. Throws SystemError, EADDRINUSE where there is one. */
function listenAt(path: string): number {
  const at = path.lastIndexOf("/") + 1;
  const hidden = `${path.slice(0, at)}.chv-${process.pid}-${path.slice(at)}`;
  if (Buffer.byteLength(hidden) > socketPathMax) return listenUnix(path, 1);
  const fd = listenUnix(hidden, 1);
  try {
    link(hidden, path);
    return fd;
  } catch {
    close(fd); // the name is taken, or the file system has no links
    return listenUnix(path, 1);
  } finally {
    removeQuietly(hidden);
  }
}

/** Somebody may have cleaned up before us. */
function removeQuietly(path: string): void {
  try {
    unlink(path);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
  }
}
