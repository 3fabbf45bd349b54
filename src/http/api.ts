/** The API of a process: its socket, published when it answers, and gone when the process ends. */
import type { VmmOptions } from "../machine/config/vmm.ts";
import type { Vmm } from "../machine/vmm/vmm.ts";
import { createApi } from "./app.ts";
import { PublishedSocket } from "./published-socket.ts";
import { SocketServer } from "./socket-server.ts";

export interface Api {
  /** Resolves when the requests that have come are answered, and the socket's name is gone. */
  close(): Promise<void>;
}

/** Serves a VMM. Throws ConfigError when the socket cannot be had. `onDeath`: the server ended on an error. */
export async function serveApi(
  vmm: Vmm,
  options: NonNullable<VmmOptions["apiSocket"]>,
  onDeath: (why: string) => void,
): Promise<Api> {
  const socket = new PublishedSocket(options);
  const server = new SocketServer(socket.fd, createApi(vmm), onDeath);
  await server.ready;
  socket.publish();
  return {
    async close() {
      await server.close();
      socket.close();
    },
  };
}
