/**
 * The entry of the API socket's thread. Its first message holds the listening socket, the eventfd that wakes it, and
 * the port by which the main thread speaks to it; from then on it does not return to the event loop.
 */
import "../compile-late.ts";
import { type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import { nameThread } from "../ffi/signals.ts";
import { compileSoon } from "../jit-policy.ts";
import { HttpServer, type Word } from "./server/server.ts";
import type { SocketEvent, SocketStart } from "./socket-server.ts";

declare const self: Worker;

function* words(port: MessagePort): Iterable<Word> {
  for (;;) {
    const said = receiveMessageOnPort(port);
    if (!said) return;
    yield said.message as Word;
  }
}

const tell = (event: SocketEvent) => self.postMessage(event);

self.onmessage = ({ data }: MessageEvent<SocketStart>) => {
  nameThread("api");
  const port = data.port as unknown as MessagePort;
  const server = new HttpServer(data.listenFd, data.wakeFd, () => words(port), {
    request: (connection, { request, fds }) => tell({ kind: "request", connection, request, fds }),
    gone: (connection) => tell({ kind: "gone", connection }),
  });
  tell({ kind: "ready" });
  compileSoon();
  server.run();
  tell({ kind: "closed" });
};
