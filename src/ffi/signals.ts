/**
 * The kick: one signal that a vCPU thread keeps blocked and opens inside the guest only (KVM_SET_SIGNAL_MASK). No
 * handler ever runs: a blocked signal is consumed with sigtimedwait(2).
 *
 * It is SIGURG, which the kernel sends by itself only to the owner of a socket (F_SETOWN), and nobody is that here. Not
 * a real-time signal: of those a user has so many (RLIMIT_SIGPENDING, signal(7)), and when they are used up tgkill
 * fails with EAGAIN and the kick is lost. A standard signal is pending or not, which is all that a kick has to say.
 *
 * Where it is not blocked it does nothing, that being its default: a thread that left before its last kick arrived goes
 * back to the runtime's event loop, whose epoll_pwait opens every signal. A blocked one is kept all the same, and
 * KVM_RUN and sigtimedwait count as blocking it (the kernel's `real_blocked`).
 */
import { Block } from "./block.ts";
import { check, cString, Errno, errno, libc, SystemError } from "./libc.ts";

export const kickSignal = 23;
const sigsetSize = 128; // glibc's sigset_t; the kernel's is its first 8 bytes
const SIG_BLOCK = 0;
const SYS_gettid = 186;
const SYS_tgkill = 234;
const PR_SET_NAME = 15;

const kickSet = new Block(sigsetSize);
kickSet.view.setBigUint64(0, 1n << BigInt(kickSignal - 1), true);
const noWait = new Block(16);

/** Blocks the kick in the calling thread. The thread's former mask is kept for `openKickInGuest`. */
export function blockKick(): Block {
  const former = new Block(sigsetSize);
  const error = libc.pthread_sigmask(SIG_BLOCK, kickSet.bytes, former.bytes);
  if (error !== 0) throw new SystemError("pthread_sigmask", error);
  return former;
}

/** Takes a pending kick away, if there is one. */
export function consumeKick(): void {
  libc.sigtimedwait(kickSet.bytes, null, noWait.bytes);
}

/** Sleeps until a kick comes, and consumes it. */
export function awaitKick(): void {
  while (libc.sigtimedwait(kickSet.bytes, null, null) < 0) {
    if (errno() !== Errno.EINTR) throw new SystemError("sigtimedwait");
  }
}

/** Kicks a thread of this process. False when there is no such thread any more. */
export function kick(threadId: number): boolean {
  return Number(libc.syscall(SYS_tgkill, process.pid, threadId, kickSignal, 0, 0, 0)) === 0;
}

export function threadId(): number {
  return check(Number(libc.syscall(SYS_gettid, 0, 0, 0, 0, 0, 0)), "gettid");
}

const threadName = new Block(16);

/** Names the calling thread, as /proc/PID/task/TID/comm shows it; at most 15 bytes. */
export function nameThread(name: string): void {
  threadName.bytes.fill(0);
  threadName.bytes.set(cString(name).subarray(0, 15));
  libc.prctl(PR_SET_NAME, threadName.address, 0, 0, 0);
}
