/** The back end's own channel to the front end (SET_BACKEND_REQ_FD): it only ever tells that configuration changed. */
import { Block } from "../../ffi/block.ts";
import { close } from "../../ffi/file.ts";
import { sendMessage } from "../../ffi/messages.ts";
import { BackendRequest, Header, headerVersion } from "./protocol.ts";

export class BackendChannel {
  private readonly fds = new Int32Array([-1]);
  private readonly message = new Block(Header.size);

  /** Takes over a socket. */
  set(fd: number): void {
    this.close();
    this.fds[0] = fd;
  }

  /** CONFIG_CHANGE_MSG, without an answer: a front end that does not read it misses it. */
  configChanged(): void {
    if (this.fds[0]! < 0) return;
    const header = new Header(this.message.view);
    header.request = BackendRequest.CONFIG_CHANGE_MSG;
    header.flags = headerVersion;
    sendMessage(this.fds[0]!, this.message.address, Header.size);
  }

  close(): void {
    if (this.fds[0]! >= 0) close(this.fds[0]!);
    this.fds[0] = -1;
  }
}
