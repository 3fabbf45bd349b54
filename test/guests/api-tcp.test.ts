/** A console on a WebSocket, of a guest that really runs. */
import { expect, test } from "bun:test";
import { ApiProcess } from "./api.ts";
import { buildGuest } from "./build.ts";
import { guestTimeoutMs } from "./harness.ts";

/** A port that nobody has: the kernel's choice, given back. */
function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}

/** chv on such a port; another one if somebody else has taken it meanwhile. */
async function listening(): Promise<{ chv: ApiProcess; port: number }> {
  for (;;) {
    const port = freePort();
    const listen = ["--api-listen", `127.0.0.1:${port}`];
    const chv = await ApiProcess.start(...listen, "--on-poweroff", "keep");
    if ((await chv.ask("GET", "vmm.ping")).status === 200) return { chv, port };
    expect((await chv.ended()).stderr).toMatch(/in use|EADDRINUSE/);
  }
}

test(
  "a WebSocket shows a console and types into it, until the machine ends",
  async () => {
    const { chv: process, port } = await listening();
    await using chv = process;
    const payload = { kernel: await buildGuest("talk") };
    const ends = { serial: { mode: "Null" }, console: { mode: "Off" } };
    await chv.put("vm.create", { payload, memory: { size: 64 * 2 ** 20 }, ...ends });
    await chv.put("vm.boot");
    await chv.put("vm.wait", { for: "login" });

    const socket = new WebSocket(`ws://127.0.0.1:${port}/api/v1/vm.console?console=serial`);
    socket.binaryType = "arraybuffer";
    let said = "";
    let heard = () => {};
    socket.onmessage = ({ data }) => {
      said += new TextDecoder().decode(data as ArrayBuffer);
      heard();
    };
    const closed = new Promise<CloseEvent>((resolve) => {
      socket.onclose = resolve;
    });
    const until = async (text: string) => {
      while (!said.includes(text)) {
        await new Promise<void>((resolve) => {
          heard = resolve;
        });
      }
    };
    await until("micro login: ");
    socket.send("one\n");
    await until("told one");
    socket.send(new TextEncoder().encode("two\n"));
    socket.send("bye\n");

    expect((await closed).code).toBe(1000);
    expect(said.replaceAll("\r", "")).toBe("booted\nmicro login: told one\ntold two\ntold bye\n");
    expect((await chv.info()).state).toBe("Shutdown");
  },
  guestTimeoutMs,
);
