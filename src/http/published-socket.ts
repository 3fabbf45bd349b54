/**
 * The API's socket in the file system. A lock beside it tells a living instance from a file that was left behind; the
 * name appears only when it is published, with its mode and group, and goes with its owner.
 */
import {
  chmodSync,
  chownSync,
  fstatSync,
  lstatSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { basename, dirname } from "node:path";
import { ConfigError } from "../exit-codes.ts";
import { close, Open, open } from "../ffi/file.ts";
import { lockFile, lockHolder } from "../ffi/file-lock.ts";
import { SystemError } from "../ffi/libc.ts";
import { inheritListener, isStaleSocket, listenUnix, socketPathMax } from "../ffi/unix-socket.ts";

export interface SocketOptions {
  readonly path?: string | undefined;
  /** An inherited socket that already listens. */
  readonly fd?: number | undefined;
  /** In octal: "0600". */
  readonly mode: string;
  readonly group?: string | undefined;
}

const backlog = 128;
const option = "--api-socket";

export class PublishedSocket {
  readonly fd: number;
  readonly #path: string | undefined;
  readonly #lockFd: number;
  /** Where it listens until it is published. */
  readonly #hidden: string;

  /** Listens, under a name that nobody knows yet. Throws ConfigError; then nothing is left. */
  constructor(readonly options: SocketOptions) {
    this.#path = options.path;
    this.#lockFd = -1;
    this.#hidden = "";
    if (options.path === undefined) {
      this.fd = attemptFd(options.fd!);
      return;
    }
    const path = options.path;
    if (Buffer.byteLength(path) > socketPathMax) {
      throw failure(path, `longer than the ${socketPathMax} bytes of a socket's name; shorten it`);
    }
    this.#lockFd = takeLock(path);
    try {
      clear(path);
      this.#hidden = `${dirname(path)}/.chv-${process.pid}-${this.#lockFd}`;
      this.fd = this.#listen(path);
    } catch (error) {
      remove(lockPath(path));
      close(this.#lockFd);
      throw error;
    }
  }

  /** By way of the folder's descriptor: a hidden name may be longer than a socket's may. */
  #listen(path: string): number {
    const folder = attempt(path, "name a folder that is there", () =>
      open(dirname(path), Open.readOnly | Open.directory),
    );
    try {
      const fix = "name a folder that chv may write";
      const short = `/proc/self/fd/${folder}/${basename(this.#hidden)}`;
      const fd = attempt(path, fix, () => listenUnix(short, backlog));
      try {
        chmodSync(this.#hidden, Number.parseInt(this.options.mode, 8));
        const { group } = this.options;
        if (group !== undefined) this.#giveTo(path, group);
        return fd;
      } catch (error) {
        close(fd);
        remove(this.#hidden);
        throw error;
      }
    } finally {
      close(folder);
    }
  }

  #giveTo(path: string, group: string): void {
    const id = groupId(group);
    if (id === undefined) throw failure(path, `group=${group} is not known here; name another`);
    try {
      chownSync(this.#hidden, -1, id);
    } catch {
      throw failure(path, `chv may not give it to group=${group}; be a member of that group`);
    }
  }

  /** From now on clients find it. */
  publish(): void {
    if (this.#path !== undefined) renameSync(this.#hidden, this.#path);
  }

  /** Takes the name away. While the lock is held it is nobody else's. */
  close(): void {
    if (this.#path === undefined) return;
    for (const name of [this.#hidden, this.#path, lockPath(this.#path)]) remove(name);
    close(this.fd);
    close(this.#lockFd);
  }
}

const remove = (name: string) => rmSync(name, { force: true });
const lockPath = (path: string) => `${path}.lock`;

const failure = (path: string, why: string) => new ConfigError(`${option} ${path}: ${why}`, option);

function attempt<T>(path: string, fix: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    throw failure(path, `${error.reason}; ${fix}`);
  }
}

/** The lock file's descriptor. Who ends removes it, so what was opened may be a file without a name by now. */
function takeLock(path: string): number {
  const name = lockPath(path);
  for (;;) {
    const flags = Open.readWrite | Open.create;
    const fd = attempt(path, "name a folder that chv may write", () => open(name, flags, 0o600));
    if (!lockFile(fd, "write")) {
      const pid = lockHolder(name);
      close(fd);
      const who = pid === undefined ? "another process" : `process ${pid}`;
      throw failure(path, `in use by ${who}; end it first, or name another path`);
    }
    if (isSameFile(name, fd)) return fd;
    close(fd);
  }
}

function isSameFile(name: string, fd: number): boolean {
  const there = lstatSync(name, { throwIfNoEntry: false });
  const { ino, dev } = fstatSync(fd);
  return there?.ino === ino && there.dev === dev;
}

/** Makes room at the path: a socket that nobody listens on goes, anything else stays. */
function clear(path: string): void {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there === undefined) return;
  if (!there.isSocket())
    throw failure(path, "a file that is no socket is there; name another path");
  if (!isStaleSocket(path)) {
    throw failure(path, "in use by a process that is not chv; end it first, or name another path");
  }
  rmSync(path, { force: true });
}

function attemptFd(fd: number): number {
  try {
    inheritListener(fd);
    return fd;
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    throw new ConfigError(`${option} fd=${fd}: no unix socket that listens; pass one`, option);
  }
}

/** A group's number, by its name in /etc/group or as it is. */
function groupId(group: string): number | undefined {
  if (/^\d{1,9}$/.test(group)) return Number(group);
  const line = readFileSync("/etc/group", "utf8")
    .split("\n")
    .find((one) => one.startsWith(`${group}:`));
  const id = line?.split(":")[2];
  return id === undefined ? undefined : Number(id);
}
