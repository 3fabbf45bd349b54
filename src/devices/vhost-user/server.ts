/** Serves one device on a listening socket, to one front end after another. */
import { Epoll } from "../../ffi/epoll.ts";
import { close } from "../../ffi/file.ts";
import { acceptUnix } from "../../ffi/unix-socket.ts";
import type { VhostUserDevice } from "./device.ts";
import { FrontEndSession } from "./session.ts";

export class VhostUserServer {
  /** The front end that there is, if there is one. */
  private readonly sessions: FrontEndSession[] = [];

  /** The socket stays the caller's. */
  constructor(
    readonly listenFd: number,
    readonly device: VhostUserDevice,
  ) {
    this.listen();
  }

  /** Lets the front end go; `done` when no request is in flight any more and everything is freed. */
  close(done: () => void): void {
    const [session] = this.sessions;
    this.device.home.unwatch(this.listenFd);
    this.sessions.length = 0;
    session?.end();
    this.device.halt(() => {
      this.device.close();
      done();
    });
  }

  private listen(): void {
    this.device.home.watch(this.listenFd, Epoll.in, () => this.accept());
  }

  /** Others wait in the backlog until this one has gone. */
  private accept(): void {
    const fd = acceptUnix(this.listenFd);
    if (fd < 0) return;
    this.device.home.unwatch(this.listenFd);
    try {
      this.sessions.push(new FrontEndSession(fd, this.device, () => this.over()));
    } catch (error) {
      close(fd);
      throw error;
    }
  }

  private over(): void {
    if (this.sessions.pop()) this.listen();
  }
}
