/**
 * Requests that nobody should send, to the API of a VM that runs: each is answered with JSON or let go, and the guest
 * goes on, which it shows by reading what is typed and by repeating it.
 */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { operations } from "../../src/http/operations.ts";
import { type Answer, Client } from "../http/rig.ts";
import { ApiProcess } from "./api.ts";
import { buildGuest } from "./build.ts";
import { guestTimeoutMs } from "./harness.ts";

let chv: ApiProcess;
let clients: Client[] = [];
let turn = 0;

const connect = async (): Promise<Client> => {
  const client = await Client.to(chv.socket);
  clients.push(client);
  return client;
};

beforeAll(async () => {
  chv = await ApiProcess.start();
  const path = join(chv.folder, "disk");
  writeFileSync(path, new Uint8Array(2 ** 20));
  const config = {
    payload: { kernel: await buildGuest("talk") },
    ...{ memory: { size: 64 * 2 ** 20 }, serial: { mode: "Null" }, console: { mode: "Null" } },
    disks: [{ id: "d", path, image_type: "Raw" }],
  };
  expect(await chv.put("vm.create", config)).toBe(204);
  expect(await chv.put("vm.boot")).toBe(204);
  expect(await chv.put("vm.wait", { for: "login", timeout_ms: guestTimeoutMs })).toBe(200);
}, guestTimeoutMs);

/** After each test: the VM runs, and the guest answers what is typed now. */
afterEach(async () => {
  for (const client of clients) client.end();
  clients = [];
  const client = await Client.to(chv.socket);
  const ask = async (method: string, operation: string, body?: unknown) => {
    const { status, body: text } = await client.ask(method, operation, body);
    return { status, json: text === "" ? undefined : JSON.parse(text) };
  };
  const word = `turn-${++turn}`;

  expect((await ask("GET", "vm.info")).json.state).toBe("Running");
  const typed = { data: `\n${word}\n`, console: "serial" };
  expect((await ask("PUT", "vm.console.write", typed)).status).toBe(204);
  const heard = { for: `console:/told ${word}$/`, timeout_ms: guestTimeoutMs / 2 };
  expect((await ask("PUT", "vm.wait", heard)).json).toEqual({
    ...{ console: "serial", line: `told ${word}` },
  });
  client.end();
}, guestTimeoutMs);

afterAll(async () => {
  expect(await chv.put("vmm.shutdown")).toBe(200);
  const { exitCode, stderr } = await chv.ended();
  await chv[Symbol.asyncDispose]();
  expect(exitCode).toBe(0);
  expect(stderr).not.toMatch(/TypeError|RangeError|at .*\.ts:\d/);
}, guestTimeoutMs);

const hostile = (name: string, run: () => Promise<void>) => test(name, run, guestTimeoutMs);

/** JSON, and no fault of chv's. */
function isAnswer({ status, head, body }: Answer): void {
  expect(status).toBeGreaterThanOrEqual(200);
  expect([500, 503]).not.toContain(status);
  if (status === 204) return;
  if (status >= 400) {
    expect(head).toContain("\r\nContent-Type: application/json\r\n");
    expect(JSON.parse(body)).toSatisfy((told) => Array.isArray(told) && told.length > 0);
    expect(body.length).toBeLessThan(4096);
  } else JSON.parse(body);
}

const descriptors = () => readdirSync(`/proc/${chv.pid}/fd`).length;
const residentMiB = () => {
  const [, pages] = readFileSync(`/proc/${chv.pid}/statm`, "utf8").split(" ");
  return (Number(pages) * 4096) / 2 ** 20;
};

const request = (target: string, body = "", method = "PUT") =>
  `${method} /api/v1/${target} HTTP/1.1\r\nHost: h\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
const ping = request("vmm.ping", "", "GET");

hostile("a byte at a time, while others ask", async () => {
  const [slow, other] = [await connect(), await connect()];
  const text = request("vm.console.write", '{"data":"slow\\n"}');

  for (const byte of text) {
    slow.send(byte);
    if (byte === " ") expect((await other.ask("GET", "vm.counters")).status).toBe(200);
  }

  expect((await slow.answer()).status).toBe(204);
});

hostile("a thousand requests sent ahead, all kinds mixed, are answered in order", async () => {
  const client = await connect();
  const kinds = [
    [ping, 200],
    [request("vm.info", "", "GET"), 200],
    [request("vm.create", "{}"), 409],
    [request("vm.add-disk", '{"path":"/d"}'), 501],
    [request("vm.resize-disk", '{"id":"none","desired_size":512}'), 404],
    [request("vm.wait", '{"for":"login"}'), 200],
    [request("vm.boot", "", "DELETE"), 405],
    [request("nothing"), 404],
    [request("vm.wait", "[["), 400],
  ] as const;
  const sent = Array.from({ length: 1000 }, (_, i) => kinds[i % kinds.length]!);

  client.send(sent.map(([text]) => text).join(""));

  const got: number[] = [];
  for (let i = 0; i < sent.length; i++) {
    const answer = await client.answer();
    isAnswer(answer);
    got.push(answer.status);
  }
  expect(got).toEqual(sent.map(([, status]) => status));
});

const lies: readonly (readonly [string, string])[] = [
  ["twice, and different", "Content-Length: 2\r\nContent-Length: 4"],
  ["negative", "Content-Length: -1"],
  ["in hexadecimal", "Content-Length: 0x10"],
  ["of 2^64", "Content-Length: 18446744073709551616"],
  ["beyond the limit", "Content-Length: 999999999"],
  ["and a transfer coding", "Content-Length: 2\r\nTransfer-Encoding: chunked"],
  ["of chunks without end", "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff"],
  ["of chunks in another coding", "Transfer-Encoding: gzip"],
];
test.each(lies)(
  "a length that is %s",
  async (_, header) => {
    const client = await connect();
    client.send(`PUT /api/v1/vm.console.write HTTP/1.1\r\n${header}\r\n\r\n{}{}{}{}`);
    const answer = await client.answer();
    isAnswer(answer);
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(await client.closed()).toBeString();
  },
  guestTimeoutMs,
);

hostile("more, and less, than the length says", async () => {
  const [more, less] = [await connect(), await connect()];

  more.send(`${request("vm.create", "{}")}{"and":"more"}\r\n\r\n`);
  less.send(request("vm.create", "{}").replace("Length: 2", "Length: 3"));
  less.end();

  expect((await more.answer()).status).toBe(409);
  const second = await more.answer();
  isAnswer(second);
  expect(second.status).toBe(400);
  expect(await less.closed()).toBe("");
});

hostile("clients that stop half way, in each part of a request, hold up nobody", async () => {
  const text = request("vm.console.write", '{"data":"never"}');
  for (let i = 1; i <= 40; i++) {
    (await connect()).send(text.slice(0, Math.floor((text.length * i) / 41)));
  }

  const other = await connect();
  for (let i = 0; i < 20; i++) expect((await other.ask("GET", "vmm.ping")).status).toBe(200);
  for (const half of clients.slice(0, 20)) half.end(); // and some leave in the middle of it
  expect((await other.ask("GET", "vm.info")).status).toBe(200);
});

hostile("10 MB of headers: one line, many lines, no end of lines", async () => {
  const long = 10 * 2 ** 20;
  for (const headers of [
    `X: ${"x".repeat(long)}`,
    "X: y\r\n".repeat(long / 6),
    "\r\n".repeat(long / 2),
    "GET ".repeat(long / 4),
  ]) {
    const client = await connect();
    client.send(`PUT /api/v1/vm.pause HTTP/1.1\r\n${headers}`);
    const answer = await client.answer().catch(() => undefined); // or it was let go
    if (answer && answer.status >= 400) isAnswer(answer);
    if (answer?.status === 204) expect((await client.ask("PUT", "vm.resume")).status).toBe(204);
  }
});

hostile("clients that ask much and never read are no burden", async () => {
  const before = residentMiB();
  for (let i = 0; i < 4; i++) {
    const deaf = await connect();
    deaf.listen(false);
    deaf.send(request("openapi.json", "", "GET").repeat(5000));
  }
  const other = await connect();
  for (let i = 0; i < 20; i++) expect((await other.ask("GET", "vm.info")).status).toBe(200);
  expect(residentMiB() - before).toBeLessThan(100); // of 20,000 answers of 50 KiB
});
hostile("1,000 connections, a third of them with half a request, leave nothing open", async () => {
  const before = descriptors();
  const crowd = await Promise.all(
    Array.from({ length: 1000 }, () => Client.to(chv.socket).catch(() => undefined)),
  );
  const statuses = await Promise.all(
    crowd.map(async (client, i) => {
      if (i % 3 !== 0) return client?.ask("GET", "vm.info").catch(() => undefined);
      client?.send("PUT /api/v1/vm.pau");
      return undefined;
    }),
  );
  for (const client of crowd) client?.end();

  const told = new Set(statuses.map((answer) => answer?.status));
  expect([...told].every((status) => [200, 503, undefined].includes(status))).toBe(true);
  // a slot is free once the server has seen that its client left
  for (;;) {
    const client = await Client.to(chv.socket);
    const answer = await client.ask("GET", "vmm.ping").catch(() => undefined);
    client.end();
    if (answer?.status === 200 && descriptors() <= before + 1) break;
  }
});

/** Whatever starts a request, cut and joined at random. */
const pieces = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.constantFrom("GET ", "PUT ", "/api/v1/vm.info", " HTTP/1.1", "\r\n"),
    },
    {
      weight: 2,
      arbitrary: fc.constantFrom("Content-Length: ", "5", "\r\n\r\n", "{}", ":", "\n", "\r"),
    },
    { weight: 1, arbitrary: fc.string({ unit: "binary" }) },
    { weight: 1, arbitrary: fc.constantFrom("\0", "HTTP/9.9", "//", "%00", "?", "#", "\t") },
  ),
  { minLength: 1, maxLength: 30 },
);

hostile("any bytes at all", async () => {
  await fc.assert(
    fc.asyncProperty(pieces, async (parts) => {
      const client = await Client.to(chv.socket);
      client.send(`${parts.join("")}\r\n\r\n`);
      client.send(`\r\n\r\n${ping}`); // something complete, so that there is an answer or an end
      const answer = await client.answer().catch(() => undefined);
      if (answer) isAnswer(answer);
      client.end();
    }),
    { numRuns: 150 },
  );
});

/** None of these ends the VM or makes it stand still, whatever the body. */
const withBody = Object.entries(operations)
  .filter(([, { body }]) => body !== undefined)
  .map(([name]) => name);

const odd = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom<unknown>(
    1e308,
    -1,
    2 ** 53,
    0.5,
    2 ** 62,
    "",
    "\0",
    "9".repeat(400),
    "__proto__",
  ),
  fc.constantFrom<unknown>("../".repeat(500), "constructor", [[[[]]]], { length: -1 }, [null], {}),
  fc.constantFrom<unknown>("console:/(a*)*b/", "console:/(/", "console://", "exit", 2 ** 20, "d"),
);
/** Values that each operation knows, with others in their place. `timeout_ms` stays short: a wait may be for long. */
const good = {
  ...{ id: "d", desired_size: 2 ** 20, for: "login", data: "", console: "serial", path: "/d" },
  ...{ tap: "t", mac: "02:00:00:00:00:01", tag: "t", socket: "/s", cid: 3, file: "/f", size: 4096 },
  ...{ desired_vcpus: 2, desired_ram: 2 ** 30, desired_balloon: 0, payload: { kernel: "/k" } },
};
const changed = fc
  .array(fc.tuple(fc.constantFrom(...Object.keys(good)), odd), { minLength: 1, maxLength: 4 })
  .map((changes) => ({ ...good, ...Object.fromEntries(changes), timeout_ms: 1 }));

hostile("wrong types and huge numbers in every operation that has a body", async () => {
  const client = await connect();
  const body = fc.oneof(
    { weight: 4, arbitrary: changed },
    { weight: 1, arbitrary: fc.jsonValue() },
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...withBody), body, async (operation, json) => {
      isAnswer(await client.ask("PUT", operation, JSON.stringify(json)));
    }),
    { numRuns: 400 },
  );
});

hostile("any path, method and query", async () => {
  const client = await connect();
  const paths = fc.oneof(
    fc.constantFrom(
      ...Object.keys(operations).filter((name) => !/^vm\.(console$|power)/.test(name)),
    ),
    fc.constantFrom("", "..", "../../v1/vm.info", "%2e%2e", "vm.info/", "VM.INFO", "vm.info%00"),
    fc.webPath(),
  );
  const methods = fc.constantFrom("POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "G\u007f");
  const queries = fc.oneof(
    fc.webQueryParameters(),
    fc.constantFrom("after=-1", "after=1e400", "="),
  );
  await fc.assert(
    fc.asyncProperty(paths, methods, queries, async (path, method, query) => {
      const target = `${path}?${query}&follow=false`.replaceAll(/[^!-~]/g, "%");
      const raw = await Client.to(chv.socket);
      raw.send(request(target, "{}", method));
      const answer = await raw.answer();
      isAnswer(answer);
      expect(answer.status).toBeGreaterThanOrEqual(400);
      raw.end();
    }),
    { numRuns: 150 },
  );
  expect((await client.ask("GET", "vmm.ping")).status).toBe(200);
});

test.each([
  ["arrays", "[".repeat(250_000)],
  ["arrays that end", "[".repeat(125_000) + "]".repeat(125_000)],
  ["objects", `${'{"a":'.repeat(40_000)}1${"}".repeat(40_000)}`],
  ["where an id is", `{"id":${"[".repeat(100_000)}${"]".repeat(100_000)},"desired_size":1}`],
])(
  "deep nesting: %s",
  async (_, text) => {
    const client = await connect();
    for (const operation of ["vm.create", "vm.add-disk", "vm.resize-disk"]) {
      const answer = await client.ask("PUT", operation, text);
      isAnswer(answer);
      expect(answer.status).toBeGreaterThanOrEqual(400);
    }
  },
  guestTimeoutMs,
);

hostile(
  "patterns that are hard to match, or to read, on a console that says what suits them",
  async () => {
    const client = await connect();
    const lines = `${"a".repeat(120)}!\n`.repeat(20);
    expect((await client.ask("PUT", "vm.console.write", { data: lines })).status).toBe(204);
    for (const pattern of [
      ...[
        "(a+)+$",
        "(a|aa)+$",
        "(a|a)*b",
        "^(([a-z])+.)+[A-Z]$",
        "(.*)*(.*)*(.*)*x",
        "(a?){100}a{100}b",
      ],
      ...[
        "(",
        "[",
        "a{9999}",
        "(?:(?:a{100}){100}){100}",
        "(?<=a)",
        "\\1",
        "(".repeat(5000),
        "\\",
        "*",
      ],
    ]) {
      const wait = { for: `console:/${pattern}/`, timeout_ms: 20 };
      const answer = await client.ask("PUT", "vm.wait", wait);
      isAnswer(answer);
      expect([pattern, [200, 400, 408].includes(answer.status)]).toEqual([pattern, true]);
    }
  },
);

hostile("twenty clients that pause it, let it go on and look at it, all at once", async () => {
  const asked = ["pause", "resume", "info", "counters", "boot", "power-button", "resume"];
  const answers = await Promise.all(
    Array.from({ length: 20 }, async (_, i) => {
      const client = await connect();
      const got: Answer[] = [];
      for (let step = 0; step < 5; step++) {
        const what = asked[(i * 3 + step) % asked.length]!;
        const method = what === "info" || what === "counters" ? "GET" : "PUT";
        got.push(await client.ask(method, `vm.${what}`));
      }
      return got;
    }),
  );
  for (const answer of answers.flat()) {
    isAnswer(answer);
    expect([200, 204, 409]).toContain(answer.status);
  }
  const last = await (await connect()).ask("PUT", "vm.resume");
  expect([204, 409]).toContain(last.status); // 409: it ran
});

hostile("a hundred that wait for what never comes, and leave", async () => {
  const other = await connect();
  for (let i = 0; i < 100; i++) {
    const client = await Client.to(chv.socket);
    client.send(request("vm.wait", `{"for":"console:/never ${i}/"}`));
    if (i % 2 === 0) client.send(request("vm.wait", '{"for":"exit"}'));
    expect((await other.ask("GET", "vmm.ping")).status).toBe(200);
    client.end();
  }
});
