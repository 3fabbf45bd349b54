/** The I/O worker of a test, for one backend: it watches descriptors, and notes what the guest and the log are told. */
import type { BackendHost } from "../../../src/devices/virtio/backend.ts";
import { EpollSet } from "../../../src/ffi/epoll.ts";

export class TestWorker implements BackendHost {
  readonly warnings: string[] = [];
  /** Changes of configuration that the guest was told of. */
  configChanges = 0;
  readonly #epoll = new EpollSet();
  readonly #ready = new Map<number, (events: number) => void>();

  /** Waits at most `timeoutMs` for one of the backend's descriptors; how many were ready. */
  pump(timeoutMs = 0): number {
    const count = this.#epoll.wait(timeoutMs);
    for (let i = 0; i < count; i++) {
      this.#ready.get(this.#epoll.tokenAt(i))?.(this.#epoll.eventsAt(i));
    }
    return count;
  }

  /** Until nothing is ready. */
  settle(): void {
    while (this.pump() > 0);
  }

  watching(fd: number): boolean {
    return this.#ready.has(fd);
  }

  watch(fd: number, events: number, ready: (events: number) => void): void {
    this.#epoll.add(fd, events, fd);
    this.#ready.set(fd, ready);
  }
  unwatch(fd: number): void {
    this.#epoll.remove(fd);
    this.#ready.delete(fd);
  }
  call(): void {}
  chores(): never {
    throw new Error("test: nobody does chores here");
  }
  configChanged(): void {
    this.configChanges++;
  }
  warn(text: string): void {
    this.warnings.push(text);
  }

  close(): void {
    this.#epoll.close();
  }
}
