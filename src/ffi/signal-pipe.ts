/**
 * Host signals for a thread that waits in epoll_wait(2) and never goes back to the runtime's event loop: a handler of
 * nine instructions writes the signal's number to a pipe, which such a thread can wait on. signalfd(2) is no way: it
 * wants the signals blocked in every thread, and the runtime's own threads were there first.
 */
import { Block } from "./block.ts";
import { close } from "./file.ts";
import { check, libc } from "./libc.ts";
import { signalLibc } from "./libc-late.ts";
import { MapFlag, mmap, munmap, Prot } from "./memory.ts";

export const Signal = { hangUp: 1, interrupt: 2, quit: 3, terminate: 15 } as const;

const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const SYS_write = 1;
/** (sighandler_t) 0: the default action. */
const SIG_DFL = 0;
const pageBytes = 4096;
const numberBytes = 8;

/** `void handler(int number) { write(fd, &number, 8); }` without libc, so that errno stays as it is. */
function handlerCode(fd: number): Uint8Array {
  const word = (value: number) => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, 0];
  return Uint8Array.from([
    0x57, //                                push rdi
    ...[0x48, 0x89, 0xe6], //               mov rsi, rsp
    ...[0xbf, ...word(fd)], //              mov edi, fd
    ...[0xba, ...word(numberBytes)], //     mov edx, 8
    ...[0xb8, ...word(SYS_write)], //       mov eax, SYS_write
    ...[0x0f, 0x05], //                     syscall
    0x5f, //                                pop rdi
    0xc3, //                                ret
  ]);
}

/** From now on the given signals do nothing but make `fd` readable. One owner, on the main thread. */
export class SignalPipe {
  readonly fd: number;
  readonly #writeFd: number;
  readonly #code: number;
  readonly #number = new Block(numberBytes);

  constructor(readonly signals: readonly number[]) {
    const ends = new Block(8);
    check(signalLibc().pipe2(ends.address as never, O_NONBLOCK | O_CLOEXEC), "pipe2");
    this.fd = ends.view.getInt32(0, true);
    this.#writeFd = ends.view.getInt32(4, true);
    const flags = MapFlag.private | MapFlag.anonymous;
    this.#code = mmap(0, pageBytes, Prot.read | Prot.write, flags);
    const code = handlerCode(this.#writeFd);
    libc.memcpy(this.#code as never, code, code.length);
    check(signalLibc().mprotect(this.#code, pageBytes, Prot.read | Prot.execute), "mprotect");
    for (const signal of signals) {
      signalLibc().signal(signal, this.#code as never);
      // also a thread that somebody else's descriptor has made wait goes on
      signalLibc().siginterrupt(signal, 1);
    }
  }

  /** The next signal that has come; 0 when none has. */
  take(): number {
    const count = Number(libc.read(this.fd, this.#number.address as never, numberBytes));
    return count === numberBytes ? this.#number.view.getInt32(0, true) : 0;
  }

  /** The signals have their default actions again. */
  close(): void {
    for (const signal of this.signals) signalLibc().signal(signal, SIG_DFL as never);
    munmap(this.#code, pageBytes);
    close(this.fd);
    close(this.#writeFd);
  }
}
