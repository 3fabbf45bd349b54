/**
 * The far end of a character device, on an I/O worker: a terminal, file, pty or socket, whose clients come and go. It
 * never blocks the worker, and wakes by itself: by its descriptors, by a timer, or by its device (`pump`, `gather`).
 */
import type { CharacterDevice, FarEnd } from "../../bus/character.ts";
import type { Clock } from "../../bus/device.ts";
import type { EventRing } from "../../bus/event-ring.ts";
import { EventKind, LogLevel } from "../../bus/events.ts";
import { monotonicNs, systemClock } from "../../ffi/clock.ts";
import { armTimerfd, createTimerfd, Epoll } from "../../ffi/epoll.ts";
import { drainEventfd } from "../../ffi/eventfd.ts";
import { close, duplicate } from "../../ffi/file.ts";
import { SystemError } from "../../ffi/libc.ts";
import { pollEvents } from "../../ffi/poll.ts";
import { acceptUnix } from "../../ffi/unix-socket.ts";
import { InputPump, type Waiter } from "./input.ts";
import { OutputPump } from "./output.ts";
import { loadSize } from "./size.ts";
import type { FarEndSpec } from "./spec.ts";
import { TypedInput } from "./typed.ts";

const pollDetachedMs = 100;
/** How soon what was typed is offered again to a guest that has no room for it. */
const typedRetryMs = 10;
/** Output of a device that says its bytes a few at a time is written in pieces of what came in this time. */
const gatherMs = 1;

export class ConsolePort implements FarEnd {
  readonly #input: InputPump;
  readonly #output: OutputPump;
  /** The far end comes and goes. */
  readonly #isClient: boolean;
  readonly #typed: TypedInput | undefined;
  /** Calls `pump` when its time has come. */
  readonly #timer = createTimerfd();
  #armed = false;
  #gathering = false;
  /** A client's second descriptor, for input. */
  #in = -1;
  /** What the device was last told of the far end's presence. */
  #told: boolean;
  /** A pty's client took nothing and lost its attachment: it gets it back when it takes something, or has gone. */
  #unheard = false;
  /** The listening socket is not waited on: a connection could not be accepted. */
  #deaf = false;

  constructor(
    readonly spec: FarEndSpec,
    readonly device: CharacterDevice,
    readonly waiter: Waiter,
    readonly events: EventRing,
    clock: Clock = systemClock,
    /** The guest says a few bytes at a time, and waits until they are taken. */
    gathers = false,
  ) {
    const { mode, outFd, inFd, listenFd, size, typed } = spec;
    const client = mode === "socket" || mode === "pty" ? mode : undefined;
    this.#isClient = client !== undefined;
    const { input } = device;
    const quit = () => events.emit(EventKind.quit, 0, 0);
    this.#input = new InputPump(input, waiter, this.#turn, spec.escapeKeys, client, quit);
    const [isClient, lost, turn] = [this.#isClient, this.#clientLost, this.#turn];
    const pump = [spec, device, waiter, events, clock, isClient, lost, turn, gathers] as const;
    this.#output = new OutputPump(...pump);
    if (mode !== "pty") {
      this.#output.attach(outFd);
      if (inFd >= 0) this.#input.attach(inFd);
    }
    this.#told = this.present;
    waiter.watch(this.#timer, Epoll.in, this.#timedOut);
    if (listenFd >= 0) waiter.watch(listenFd, Epoll.in, this.#accept);
    if (size) waiter.watch(size.fd, Epoll.in, this.#resize);
    this.#typed = typed && new TypedInput(typed);
    if (typed) waiter.watch(typed.fd, Epoll.in, this.#wasTyped);
    if (mode === "pty") this.#wakeAfter(0);
  }

  get present(): boolean {
    if (this.spec.leavesAtEnd && this.#input.ended) return false;
    return !this.#isClient || this.#output.fd >= 0;
  }

  get busy(): boolean {
    return this.#output.busy;
  }

  /** Output has come, and more will follow: it is written together. */
  gather(): void {
    if (this.#gathering) return;
    this.#gathering = true;
    this.#wakeAfter(gatherMs);
  }

  arrived(): void {
    if (!this.#output.take()) this.pump();
    else if (this.#output.gathered) this.gather();
  }

  pump(): number {
    this.#gathering = false;
    if (this.spec.mode === "pty") this.#lookForPtyClient();
    if (this.#deaf) this.#listen();
    const again = this.#pumpInput();
    let wait = this.#output.pump();
    if (wait < 0 && this.spec.mode === "pty" && !this.present) wait = pollDetachedMs;
    if (wait < 0 && this.#output.gathered) wait = gatherMs;
    const next = wait < 0 || (again >= 0 && again < wait) ? again : wait;
    this.#wakeAfter(next);
    if (this.#told !== this.present) {
      this.#told = this.present;
      this.device.presenceChanged?.(this.#told);
    }
    return next;
  }

  keepOutput(): boolean {
    if (this.#output.gathered) this.pump(); // nobody may come back to it for long
    this.#wakeAfter(0);
    return this.#output.keep();
  }

  outputLost(): void {
    this.#output.tellLost("beyond 1 MiB that waited at a reset");
  }

  readonly #turn = () => void this.pump();

  readonly #timedOut = () => {
    drainEventfd(this.#timer);
    this.#armed = false;
    this.pump();
  };

  readonly #resize = () => {
    const size = this.spec.size!;
    drainEventfd(size.fd);
    const { columns, rows } = loadSize(size);
    this.device.resized?.(columns, rows);
  };

  /** In so many ms, if nothing happens before; -1: not at all. */
  #wakeAfter(ms: number): void {
    if (ms < 0 && !this.#armed) return;
    this.#armed = ms >= 0;
    const atOnce = 1; // a moment that has passed: after what else is ready
    if (ms < 0) armTimerfd(this.#timer, 0);
    else armTimerfd(this.#timer, ms === 0 ? atOnce : monotonicNs() + ms * 1e6);
  }

  readonly #wasTyped = () => {
    this.#typed!.heard();
    this.pump();
  };

  #pumpInput(): number {
    let again: number;
    const typed = this.#typed?.deliver(this.device.input) ?? false;
    try {
      again = this.#input.pump();
    } finally {
      if (this.#input.takeArrived() || typed) this.device.inputArrived();
    }
    if (this.#typed?.waiting && again < 0) again = typedRetryMs;
    if (this.#isClient && this.present && this.#input.hungUp) this.#detach();
    return again;
  }

  readonly #clientLost = (stalled: boolean) => {
    if (stalled) this.#warn("the client took nothing for 5 s and was detached");
    this.#detach();
    this.#unheard = stalled && this.spec.mode === "pty";
  };

  #warn(what: string): void {
    this.events.log(LogLevel.warn, `${this.spec.name}: ${what}`, 1);
  }

  /** One client at a time; the next waits in the socket's queue. */
  readonly #accept = () => {
    const client = acceptUnix(this.spec.listenFd);
    this.waiter.unwatch(this.spec.listenFd);
    if (client < 0) {
      this.#deaf = true; // no descriptor to be had, or the client has gone again: look later
      this.#wakeAfter(pollDetachedMs);
      return;
    }
    this.#attach(client);
    this.pump();
  };

  #listen(): void {
    this.#deaf = false;
    this.waiter.watch(this.spec.listenFd, Epoll.in, this.#accept);
  }

  /** Output and input are waited on apart, so each has a descriptor of its own. */
  #attach(fd: number): void {
    this.#output.attach(fd);
    try {
      this.#in = duplicate(fd);
      this.#input.attach(this.#in);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.#warn(`a client was turned away: ${error.message}`);
      this.#detach();
    }
  }

  #detach(): void {
    const client = this.#output.fd;
    if (client < 0) return;
    this.#output.detach();
    this.#input.detach();
    if (this.#in >= 0) close(this.#in);
    this.#in = -1;
    if (this.spec.mode === "socket") {
      close(client);
      this.#listen();
    }
  }

  /** A pty has no accept: its master hangs up while nobody has the other end open. */
  #lookForPtyClient(): void {
    if (this.present) return;
    const events = pollEvents(this.spec.outFd, Epoll.out);
    const there = (events & Epoll.hangUp) === 0;
    if (!there || events & Epoll.out) this.#unheard = false;
    if (there && !this.#unheard) this.#attach(this.spec.outFd);
  }

  /** Lets go of a client; the listening socket and the terminal belong to the main thread. */
  close(): void {
    if (this.#isClient) this.#detach();
    this.waiter.unwatch(this.#timer);
    if (this.spec.typed) this.waiter.unwatch(this.spec.typed.fd);
    close(this.#timer);
  }
}
