/** A console on a WebSocket: what it says comes as binary messages, what is sent is typed. */
import type { ServerWebSocket, WebSocketHandler } from "bun";
import type { Vmm } from "../machine/vmm/vmm.ts";
import { followConsole, logOf, writeConsole } from "./console.ts";
import { errorResponse } from "./errors.ts";

/** What belongs to one client. */
export interface SocketData {
  /** The console's name. */
  readonly name: string;
  readonly gone: AbortController;
  leave: () => void;
  /** Messages are typed one after another. */
  typing: Promise<void>;
  /** Characters that are still to be typed. */
  waiting: number;
}

/** What a client may be behind with reading, in bytes, and with typing, in characters. */
const backlog = 4 * 2 ** 20;
const typingMax = 2 ** 16;
/** RFC 6455 section 7.4.1. */
const Closed = { normal: 1000, tooBig: 1009, failed: 1011 } as const;

export interface ConsoleSocket {
  readonly handlers: WebSocketHandler<SocketData>;
  /** Upgrades a request for a console; an answer where that cannot be. */
  upgrade(
    name: string | undefined,
    accept: string,
    run: (data: SocketData) => boolean,
  ): Response | undefined;
}

export function consoleSocket(vmm: Vmm): ConsoleSocket {
  const open = (socket: ServerWebSocket<SocketData>): void => {
    const { data } = socket;
    const say = (bytes: Uint8Array) => {
      socket.send(bytes);
      if (socket.getBufferedAmount() > backlog) socket.close(Closed.failed, "too slow");
    };
    data.leave = followConsole(vmm, data.name, say, () => socket.close(Closed.normal, "ended"));
  };
  const message = (socket: ServerWebSocket<SocketData>, said: string | Buffer): void => {
    const { data } = socket;
    const text = typeof said === "string" ? said : said.toString("utf8");
    if (data.waiting + text.length > typingMax) {
      socket.close(Closed.tooBig, "typed faster than the guest reads");
      return;
    }
    data.waiting += text.length;
    data.typing = data.typing
      .then(() => writeConsole(vmm, data.name, text, data.gone.signal))
      .catch((error: Error) => socket.close(Closed.failed, error.message.slice(0, 100)))
      .then(() => {
        data.waiting -= text.length;
      });
  };
  const close = ({ data }: ServerWebSocket<SocketData>): void => {
    data.leave();
    data.gone.abort();
  };
  return {
    handlers: { open, message, close, maxPayloadLength: typingMax },
    upgrade(name, accept, run) {
      try {
        const leave = () => {};
        const typing = Promise.resolve();
        const data = { name: logOf(vmm, name).name, gone: new AbortController(), leave };
        if (run({ ...data, typing, waiting: 0 })) return undefined;
        return errorResponse(new Error("The upgrade failed"), undefined, accept);
      } catch (error) {
        return errorResponse(error, "vm.console failed", accept);
      }
    },
  };
}
