/** The client of the lab's agent (see `agent`): one connection per command. */

import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { readState } from "./state.ts";

/** The connection ended before the script's status came: the lab is gone. */
export const CONNECTION_LOST = 254;
/** The time ran out. */
export const TIMED_OUT = 253;

/**
 * Once a whole lab stood still until its client hung up, and then went on as if nothing had been: an emulated processor
 * that lost its timer's interrupt, or the file server's. A packet wakes it, and on each line the agent asks for a file.
 */
const heartbeatMs = 2000;

export interface AgentOptions {
  /** What the script prints, stdout and stderr together, as it comes. */
  readonly onOutput: (data: Buffer) => void;
  readonly timeoutMs?: number;
  /** Called when the time has run out, before the script is killed. */
  readonly onTimeout?: () => Promise<void>;
}

const sockets = new Set<Socket>();

/** Ends what runs in the lab for this process, whose end alone would come too late for who looks for users. */
export async function hangUp(): Promise<void> {
  const closed = [...sockets].map(
    (socket) => new Promise((resolve) => socket.on("close", resolve)),
  );
  for (const socket of sockets) socket.destroy();
  await Promise.all(closed);
}

function open(): Socket & { readonly token: string } {
  const state = readState();
  if (!state) throw new Error("the lab is not running; ./dev lab start");
  const socket = connect({ host: "127.0.0.1", port: state.port, noDelay: true });
  socket.on("error", () => undefined); // shows as "close"
  sockets.add(socket);
  socket.on("close", () => sockets.delete(socket));
  return Object.assign(socket, { token: state.token });
}

/** Runs a bash script in the lab; its status, or CONNECTION_LOST or TIMED_OUT. */
export function agentRun(script: string, options: AgentOptions): Promise<number> {
  const socket = open();
  const nonce = randomBytes(12).toString("hex");
  const end = new RegExp(`\\x01${nonce}=(\\d+)\\n$`);
  const markLength = nonce.length + 6; // \001, NONCE, =, up to three digits, \n
  socket.write(`${socket.token} ${nonce} run ${Buffer.from(script).toString("base64")}\n`);

  const heart = setInterval(() => socket.write("\n"), heartbeatMs);
  const { promise, resolve } = Promise.withResolvers<number>();
  let held = Buffer.alloc(0); // the last bytes, which may be the beginning of the mark
  const timer = setTimeout(async () => {
    await options.onTimeout?.();
    finish(TIMED_OUT);
  }, options.timeoutMs ?? 300_000);
  const finish = (status: number) => {
    clearTimeout(timer);
    clearInterval(heart);
    if (held.length > 0) options.onOutput(held);
    held = Buffer.alloc(0);
    socket.destroy();
    resolve(status);
  };
  socket.on("data", (data: Buffer) => {
    held = Buffer.concat([held, data]);
    const mark = end.exec(held.subarray(-markLength).toString("latin1"));
    if (mark) {
      held = held.subarray(0, -mark[0].length);
      return finish(Number(mark[1]));
    }
    if (held.length <= markLength) return;
    options.onOutput(held.subarray(0, -markLength));
    held = held.subarray(-markLength);
  });
  socket.on("close", () => finish(CONNECTION_LOST));
  return promise;
}

/** A shell in the lab, on this terminal, until it ends. */
export async function agentShell(): Promise<void> {
  const { stdin, stdout } = process;
  const socket = open();
  socket.write(`${socket.token} - ${stdout.rows ?? 24}x${stdout.columns ?? 80} -\n`);
  if (stdin.isTTY) stdin.setRawMode(true);
  stdin.on("data", (data) => socket.write(data));
  socket.on("data", (data) => stdout.write(data));
  await new Promise((resolve) => socket.on("close", resolve));
  if (stdin.isTTY) stdin.setRawMode(false);
  stdin.pause();
}
