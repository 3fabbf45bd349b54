/**
 * Messages on unix sockets with descriptors beside their bytes (unix(7), SCM_RIGHTS). Received descriptors are
 * close-on-exec and belong to the caller. Nothing waits, nothing raises SIGPIPE.
 */
import { allocate, Block } from "./block.ts";
import { close } from "./file.ts";
import { Iovec } from "./io-uring-abi.ts";
import { Errno, errno } from "./libc.ts";
import { socketLibc } from "./libc-late.ts";
import { addr, i32, struct, u32 } from "./struct.ts";

/** struct msghdr, struct cmsghdr of <sys/socket.h>. */
export const Msghdr = struct("msghdr", 56, {
  msg_name: addr,
  msg_namelen: u32,
  msg_iov: addr,
  msg_iovlen: addr,
  msg_control: addr,
  msg_controllen: addr,
  msg_flags: i32,
});
export const Cmsghdr = struct("cmsghdr", 16, { cmsg_len: addr, cmsg_level: i32, cmsg_type: i32 });

// asm-generic/socket.h, linux/socket.h
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
/** SCM_MAX_FD: what the kernel lets one message carry. */
const maxDescriptors = 253;
const fdBytes = 4;

const aligned = (length: number) => Math.ceil(length / 8) * 8;

const message = allocate(Msghdr);
const part = allocate(Iovec);
const control = new Block(Cmsghdr.size + aligned(maxDescriptors * fdBytes));
const header = new Cmsghdr(control.view);

function lay(address: number, length: number, controlBytes: number): void {
  const { fields } = message;
  part.fields.iov_base = address;
  part.fields.iov_len = length;
  fields.msg_iov = part.address;
  fields.msg_iovlen = 1;
  fields.msg_control = controlBytes === 0 ? 0 : control.address;
  fields.msg_controllen = controlBytes;
  fields.msg_flags = 0;
}

/**
 * Sends `length` bytes from a host address, and descriptors with the first of them, which stay open here: the count, or
 * minus the errno.
 */
export function sendMessage(
  fd: number,
  address: number,
  length: number,
  fds: readonly number[] = [],
): number {
  if (fds.length > maxDescriptors) return -Errno.EMSGSIZE;
  const rights = Cmsghdr.size + fds.length * fdBytes;
  lay(address, length, fds.length === 0 ? 0 : aligned(rights));
  header.cmsg_len = rights;
  header.cmsg_level = SOL_SOCKET;
  header.cmsg_type = SCM_RIGHTS;
  for (const [i, one] of fds.entries()) {
    control.view.setInt32(Cmsghdr.size + i * fdBytes, one, true);
  }
  const count = Number(
    socketLibc().sendmsg(fd, message.address as never, MSG_DONTWAIT | MSG_NOSIGNAL),
  );
  return count < 0 ? -errno() : count;
}

/**
 * Receives up to `length` bytes to a host address; descriptors that came with them are appended to `fds`. The count, 0
 * at the end, or minus the errno: EMSGSIZE when the process had no room for a descriptor, and then none is left open.
 */
export function receiveMessage(fd: number, address: number, length: number, fds: number[]): number {
  lay(address, length, control.bytes.length);
  const flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
  const count = Number(socketLibc().recvmsg(fd, message.address as never, flags));
  if (count < 0) return -errno();
  const received = takeDescriptors(message.fields.msg_controllen);
  if ((message.fields.msg_flags & MSG_CTRUNC) === 0) {
    fds.push(...received);
    return count;
  }
  for (const one of received) close(one);
  return -Errno.EMSGSIZE;
}

function takeDescriptors(controlBytes: number): number[] {
  const fds: number[] = [];
  for (let at = 0; at + Cmsghdr.size <= controlBytes; ) {
    const one = new Cmsghdr(control.view, at);
    const length = one.cmsg_len;
    if (length < Cmsghdr.size) break;
    if (one.cmsg_level === SOL_SOCKET && one.cmsg_type === SCM_RIGHTS) {
      for (let place = Cmsghdr.size; place + fdBytes <= length; place += fdBytes) {
        fds.push(control.view.getInt32(at + place, true));
      }
    }
    at += aligned(length);
  }
  return fds;
}
