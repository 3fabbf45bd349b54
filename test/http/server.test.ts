/** The socket's server against clients that are slow, hasty, dishonest, many, or gone. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { close } from "../../src/ffi/file.ts";
import { listenUnix } from "../../src/ffi/unix-socket.ts";
import { limits } from "../../src/http/server/parser.ts";
import { connectionsMax } from "../../src/http/server/server.ts";
import { SocketServer, streamMark } from "../../src/http/socket-server.ts";
import { log } from "../../src/log.ts";
import { leftOpen, openFiles } from "../machine/proc.ts";
import { Client, type Rig, startApi } from "./rig.ts";

const ping = "GET /api/v1/vmm.ping HTTP/1.1\r\nHost: localhost\r\n\r\n";

async function pings(rig: Rig): Promise<number> {
  const client = await rig.connect();
  const { status } = await client.ask("GET", "vmm.ping");
  client.end();
  return status;
}

test("a byte at a time is a request all the same", async () => {
  await using rig = await startApi();
  const client = await rig.connect();
  const body = JSON.stringify({ payload: { kernel: "/k" } });
  const text = `PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

  for (const byte of text) client.send(byte);

  expect((await client.answer()).status).toBe(204);
});

test("requests sent ahead are answered in order", async () => {
  await using rig = await startApi();
  const client = await rig.connect();

  client.send(ping + ping.replace("vmm.ping", "vm.info") + ping);

  const statuses = [await client.answer(), await client.answer(), await client.answer()];
  expect(statuses.map(({ status }) => status)).toEqual([200, 404, 200]);
});

test("a client that stops half way holds up nobody", async () => {
  await using rig = await startApi();
  const slow = await rig.connect();
  slow.send("PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: 100\r\n\r\n{");

  expect(await pings(rig)).toBe(200);
});

test("more than a request says is another request", async () => {
  await using rig = await startApi();
  const client = await rig.connect();

  client.send(`PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}hello\r\n\r\n`);

  expect((await client.answer()).status).toBe(204);
  const refused = await client.answer();
  expect([refused.status, JSON.parse(refused.body)]).toEqual([400, ["Malformed request line"]]);
  expect(await client.closed()).toBe("");
});

test("a head of 10 MB is refused, and its client let go", async () => {
  await using rig = await startApi();
  const client = await rig.connect();

  client.send(`GET /api/v1/vmm.ping HTTP/1.1\r\nX: ${"x".repeat(10 * 2 ** 20)}`);

  const { status, head, body } = await client.answer();
  expect(status).toBe(431);
  expect(head).toContain("\r\nConnection: close\r\n");
  expect(JSON.parse(body)).toHaveLength(1);
  expect(await pings(rig)).toBe(200);
});

test("a body that is too long is refused before it comes", async () => {
  await using rig = await startApi();
  const client = await rig.connect();

  client.send(`PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: ${limits.body + 1}\r\n\r\n`);

  expect((await client.answer()).status).toBe(413);
});

test("a body of the longest length is read", async () => {
  await using rig = await startApi();
  const client = await rig.connect();
  const text = `{"payload":{"kernel":"/${"k".repeat(1000)}"}}`;

  expect((await client.ask("PUT", "vm.create", text.padEnd(limits.body, " "))).status).toBe(204);
});

test("a client that asks much is not answered on before it reads, and loses nothing", async () => {
  await using rig = await startApi();
  const [slow, other] = [await rig.connect(), await rig.connect()];
  const document = ping.replace("vmm.ping", "openapi.json");
  const heads = 30;

  slow.listen(false);
  slow.send(document.repeat(heads) + ping);
  for (let i = 0; i < 20; i++) expect((await other.ask("GET", "vmm.ping")).status).toBe(200);
  slow.listen(true);

  for (let i = 0; i < heads; i++) expect((await slow.answer()).status).toBe(200);
  expect(JSON.parse((await slow.answer()).body)).toHaveProperty("version");
});

test("the client after the 64th is told so, and one that leaves makes room", async () => {
  await using rig = await startApi();
  const clients: Client[] = [];
  for (let i = 0; i < connectionsMax; i++) clients.push(await rig.connect());
  expect(connectionsMax).toBe(64);
  expect((await clients.at(-1)!.ask("GET", "vmm.ping")).status).toBe(200);

  const extra = await rig.connect();
  const { status, body } = await extra.ask("GET", "vmm.ping");
  expect([status, JSON.parse(body)]).toEqual([
    503,
    ["Too many connections; try again when one has ended"],
  ]);

  clients[0]!.end();
  for (;;) if ((await pings(rig)) === 200) break;
});

test("1,000 connections at once are all answered or let go, and leave nothing open", async () => {
  const before = openFiles();
  {
    await using rig = await startApi();
    const clients = await Promise.all(
      Array.from({ length: 1000 }, () => rig.connect().catch(() => undefined)),
    );
    const answers = await Promise.all(
      clients.map((client) => client?.ask("GET", "vmm.ping").catch(() => undefined)),
    );
    const statuses = new Set(answers.map((answer) => answer?.status));
    expect(statuses.has(200)).toBe(true);
    expect([...statuses].every((status) => [200, 503, undefined].includes(status))).toBe(true);
    for (const client of clients) client?.end();
    for (;;) if ((await pings(rig).catch(() => 0)) === 200) break;
  }
  expect(leftOpen(before)).toEqual([]);
});

test("HTTP/1.0 gets its answer, and the end of the connection", async () => {
  await using rig = await startApi();
  const client = await rig.connect();

  client.send("GET /api/v1/vmm.ping HTTP/1.0\r\n\r\n");

  expect((await client.answer()).status).toBe(200);
  expect(await client.closed()).toBe("");
});

test("a HEAD request is told the length and gets no body", async () => {
  await using rig = await startApi();
  const client = await rig.connect();

  client.send("HEAD /api/v1/vmm.ping HTTP/1.1\r\n\r\n");
  client.send(ping);

  const text = await client.closedBody(2);
  const [first, second] = text.split(/(?=HTTP\/1\.1 )/);
  const [head, body] = second!.split("\r\n\r\n");
  expect(body).toContain('"version"');
  expect(first).toBe(`${head}\r\n\r\n`); // the length that GET's answer has, above all
  expect(first).toContain(`Content-Length: ${body!.length}\r\n`);
});

test("a HEAD request for a stream gets its head, and the next request is served", async () => {
  await using rig = await startApi();
  const client = await rig.connect();

  client.send("HEAD /api/v1/events HTTP/1.1\r\n\r\n");
  const { head, body } = await client.answer();

  expect([head.slice(0, 13), body]).toEqual(["HTTP/1.1 200 ", ""]);
  expect(head).toContain("\r\nContent-Type: application/x-ndjson\r\n");
  expect((await client.ask("GET", "vmm.ping")).status).toBe(200);
});

test("a fault of the server's own costs its client alone", async () => {
  const folder = mkdtempSync(join(tmpdir(), "chv-http-"));
  const path = join(folder, "socket");
  const listenFd = listenUnix(path, 8);
  let turn = 0;
  const server = new SocketServer(
    listenFd,
    () => {
      if (turn++ === 0) throw new Error("a fault");
      const broken = new ReadableStream({ pull: (stream) => stream.error(new Error("a fault")) });
      if (turn === 2) return new Response(broken, { headers: { [streamMark]: "1" } });
      return new Response("well");
    },
    () => {},
  );
  await server.ready;
  log.setLevel(-1 as never); // both faults are logged

  const ends: string[] = [];
  for (let i = 0; i < 3; i++) {
    const client = await Client.to(path);
    client.send(ping);
    ends.push(i < 2 ? await client.closed() : (await client.answer()).body);
    client.end();
  }
  expect(ends).toEqual(["", expect.stringContaining("HTTP/1.1 200 "), "well"]);

  log.setLevel(1);
  await server.close();
  close(listenFd);
  rmSync(folder, { recursive: true });
});

test("a server that ends tells those who wait, and lets those go who do not read", async () => {
  const rig = await startApi();
  const clients = [await rig.connect(), await rig.connect(), await rig.connect()] as const;
  const [waiting, ahead, deaf] = clients;
  await waiting.ask("PUT", "vm.create", { payload: { kernel: "/k" } });
  const wait = (goal: string) => {
    const body = `{"for":"${goal}"}`;
    return `PUT /api/v1/vm.wait HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  };
  waiting.send(wait("login"));
  ahead.send(wait("console:/x/") + wait("exit")); // the second is not looked at any more
  deaf.listen(false);
  deaf.send(ping.replace("vmm.ping", "openapi.json").repeat(100));
  for (const other = await rig.connect(); ; ) {
    if ((await other.ask("GET", "vmm.ping")).status === 200) break;
  }

  await rig.close();

  for (const [client, goal] of [
    [waiting, "login"],
    [ahead, "/x/"],
  ] as const) {
    const { status, body } = await client.answer();
    expect([status, JSON.parse(body)]).toEqual([
      409,
      ["vm.wait failed", `${goal} did not come: the VMM ends`],
    ]);
    expect(await client.closed()).toBe("");
  }
  await rig[Symbol.asyncDispose]();
});

test("a waiting client that leaves ends its wait", async () => {
  await using rig = await startApi();
  const [waiting, other] = [await rig.connect(), await rig.connect()];
  await other.ask("PUT", "vm.create", { payload: { kernel: "/k" } });

  const body = '{"for":"exit"}';
  waiting.send(`PUT /api/v1/vm.wait HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  waiting.end();

  expect((await other.ask("GET", "vm.info")).status).toBe(200);
});
