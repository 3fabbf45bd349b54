/** Stream sockets in the file system (unix(7)). */
import { Block } from "./block.ts";
import { close } from "./file.ts";
import { linkStatusAt } from "./file-status.ts";
import { check, cString, Errno, errno, libc, SystemError } from "./libc.ts";
import { socketLibc } from "./libc-late.ts";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SHUT_WR = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** sizeof(sun_path), with its NUL. */
const pathBytes = 108;
/** The longest path of a socket, in bytes. */
export const socketPathMax = pathBytes - 1;
const SOL_SOCKET = 1;
const [SO_ACCEPTCONN, SO_DOMAIN] = [30, 39];
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const F_SETFL = 4;

function socketAddress(path: string): Block {
  const name = cString(path);
  if (name.length > pathBytes) throw new SystemError(`bind ${path}`, Errno.ENAMETOOLONG);
  if (path === "") throw new SystemError("bind", Errno.ENOENT); // the kernel would take it for an abstract name
  const address = new Block(2 + pathBytes);
  address.view.setUint16(0, AF_UNIX, true);
  address.bytes.set(name, 2);
  return address;
}

const unixSocket = (): number =>
  check(socketLibc().socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");

/** Two connected sockets without a name, non-blocking. Throws SystemError. */
export function socketPair(): [number, number] {
  const fds = new Block(8);
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  check(socketLibc().socketpair(AF_UNIX, type, 0, fds.bytes), "socketpair");
  return [fds.view.getInt32(0, true), fds.view.getInt32(4, true)];
}

/** A listening socket at `path`, which must not exist. Throws SystemError, ENAMETOOLONG included. */
export function listenUnix(path: string, backlog: number): number {
  const address = socketAddress(path);
  const fd = unixSocket();
  try {
    check(socketLibc().bind(fd, address.bytes, address.bytes.length), `bind ${path}`);
    check(socketLibc().listen(fd, backlog), `listen ${path}`);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

/** Takes over an inherited socket, for `acceptUnix`. Throws SystemError if it is no unix socket that listens. */
export function inheritListener(fd: number): void {
  const option = new Block(8);
  const value = (name: number) => {
    option.view.setUint32(4, 4, true);
    const { address } = option;
    const result = socketLibc().getsockopt(
      fd,
      SOL_SOCKET,
      name,
      address as never,
      (address + 4) as never,
    );
    return check(result, "getsockopt") + option.view.getInt32(0, true);
  };
  if (value(SO_DOMAIN) !== AF_UNIX || value(SO_ACCEPTCONN) !== 1) {
    throw new SystemError("inherited socket", Errno.EINVAL);
  }
  check(libc.fcntl(fd, F_SETFD, FD_CLOEXEC), "fcntl(F_SETFD)");
  check(libc.fcntl(fd, F_SETFL, SOCK_NONBLOCK), "fcntl(F_SETFL)");
}

/** Whether a socket file is left over: nobody listens on it any more. A file that is no socket is none. */
export function isStaleSocket(path: string): boolean {
  if (linkStatusAt(path)?.kind !== "socket") return false;
  const address = socketAddress(path);
  const fd = unixSocket();
  try {
    const result = socketLibc().connect(fd, address.bytes, address.bytes.length);
    return result < 0 && errno() === Errno.ECONNREFUSED;
  } finally {
    close(fd);
  }
}

/** A connection to whoever listens at `path`, non-blocking. Throws SystemError: ECONNREFUSED, ENOENT, … */
export function connectUnix(path: string): number {
  const address = socketAddress(path);
  const fd = unixSocket();
  try {
    check(socketLibc().connect(fd, address.bytes, address.bytes.length), `connect ${path}`);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

/** The next connection, non-blocking; -1 when there is none. */
export function acceptUnix(fd: number): number {
  return socketLibc().accept4(fd, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/** Says that nothing more is sent (shutdown(2), SHUT_WR); what comes can still be read. */
export function endSending(fd: number): void {
  socketLibc().shutdown(fd, SHUT_WR);
}

/** One send(2) from a host address that never waits and never raises SIGPIPE: the count, or minus the errno. */
export function sendSome(fd: number, address: number, length: number): number {
  const count = Number(
    socketLibc().send(fd, address as never, length, MSG_DONTWAIT | MSG_NOSIGNAL),
  );
  return count < 0 ? -errno() : count;
}
