/**
 * The kick: one real-time signal that a vCPU thread keeps blocked and opens inside the guest only
 * (KVM_SET_SIGNAL_MASK). No handler ever runs: a blocked signal is consumed with sigtimedwait(2).
 */
import { Block } from "./block.ts";
import { check, cString, Errno, errno, libc, SystemError } from "./libc.ts";

/** Well inside the range that glibc leaves to programs (SIGRTMIN is 34). */
export const kickSignal = 42;
const sigsetSize = 128; // glibc's sigset_t; the kernel's is its first 8 bytes
const SIG_BLOCK = 0;
/** (sighandler_t) 1 */
const SIG_IGN = 1;
const SYS_gettid = 186;
const SYS_tgkill = 234;
const PR_SET_NAME = 15;

const kickSet = new Block(sigsetSize);
kickSet.view.setBigUint64(0, 1n << BigInt(kickSignal - 1), true);
const noWait = new Block(16);

let ignored = false;

/**
 * Makes the kick harmless where it is not blocked: a thread that left before its last kick arrived goes back to the
 * runtime's event loop, whose epoll_pwait opens every signal, and the default action would kill the process. A blocked
 * signal is queued all the same, and KVM_RUN and sigtimedwait count as blocking it (the kernel's `real_blocked`).
 *
 * For the thread that starts the others, before it does: each call throws away what is pending in any thread, so it
 * acts once.
 */
export function ignoreKick(): void {
  if (ignored) return;
  libc.signal(kickSignal, SIG_IGN);
  ignored = true;
}

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
