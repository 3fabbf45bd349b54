/** QEMU's machine protocol, as far as the lab needs it: one command after another, events ignored. */

import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";

export class Qmp {
  private constructor(
    readonly socket: Socket,
    readonly lines: AsyncIterator<string>,
  ) {}

  /** Connects to a QMP unix socket and negotiates. */
  static async open(path: string): Promise<Qmp> {
    const socket = connect(path);
    socket.on("error", () => undefined); // a lost connection shows as the end of the lines
    const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
    const qmp = new Qmp(socket, lines);
    if ((await lines.next()).done) throw new Error(`QMP: nobody answers on ${path}`);
    await qmp.call("qmp_capabilities");
    return qmp;
  }

  /** The command's return value; throws QEMU's own description of an error. */
  async call(command: string, arguments_: object = {}): Promise<Record<string, unknown>> {
    this.socket.write(`${JSON.stringify({ execute: command, arguments: arguments_ })}\n`);
    for (;;) {
      const line = await this.lines.next();
      if (line.done) throw new Error(`QMP: connection lost during ${command}`);
      const reply = JSON.parse(line.value);
      if (reply.error) throw new Error(`QMP: ${command}: ${reply.error.desc}`);
      if (reply.return) return reply.return;
    }
  }

  close(): void {
    this.socket.destroy();
  }
}
