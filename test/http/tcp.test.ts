/** The API on TCP: for this host alone, or for those who have the token. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError } from "../../src/exit-codes.ts";
import { listenApi } from "../../src/http/tcp.ts";
import { EventLog } from "../../src/machine/vmm/events.ts";
import { Vmm } from "../../src/machine/vmm/vmm.ts";

const token = "0123456789abcdef";
let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "chv-tcp-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function tokenFile(text: string, mode = 0o600): string {
  const path = join(folder, `token${Math.random()}`);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

function start(apiListen = "127.0.0.1:0", apiTokenFile?: string) {
  const reactions = { onReboot: "restart", onPoweroff: "keep", onPanic: "keep" } as const;
  const vmm = new Vmm(new EventLog(0, 0), reactions);
  const api = listenApi(vmm, { apiListen, apiTokenFile });
  const ask = (operation: string, init: RequestInit = {}) =>
    fetch(`http://127.0.0.1:${api.port}/api/v1/${operation}`, init);
  return { vmm, ask, port: api.port, [Symbol.asyncDispose]: () => api.close() };
}

function refused(apiListen: string, apiTokenFile?: string): string {
  try {
    start(apiListen, apiTokenFile);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  throw new Error("it listens");
}

test("serves the operations of the socket, streams among them", async () => {
  await using api = start();

  const ping = await api.ask("vmm.ping");
  expect([ping.status, await ping.json()]).toMatchObject([200, { pid: process.pid }]);
  const body = JSON.stringify({ payload: { kernel: "/k" } });
  expect((await api.ask("vm.create", { method: "PUT", body })).status).toBe(204);
  expect((await api.ask("vm.pause", { method: "PUT" })).status).toBe(409);

  const events = (await api.ask("events")).body!.getReader();
  const first = new TextDecoder().decode((await events.read()).value);
  expect(JSON.parse(first.split("\n")[0]!).event).toBe("created");
  await events.cancel();
});

test("ends its streams when it closes", async () => {
  const api = start();
  api.vmm.events.tell("vmm", "starting", 0);
  const events = await api.ask("events");
  await api[Symbol.asyncDispose]();
  await events.text().catch(() => "");
  expect(await api.ask("vmm.ping").catch(() => "nobody")).toBe("nobody");
});

describe("with a token", () => {
  test("asks each request for it", async () => {
    await using api = start("127.0.0.1:0", tokenFile(`${token}\n`));
    const status = async (authorization?: string) =>
      (await api.ask("vmm.ping", { headers: authorization ? { authorization } : {} })).status;

    expect(await status(`Bearer ${token}`)).toBe(200);
    expect(await status(`bearer ${token}`)).toBe(200); // RFC 9110 section 11.1
    expect(await status()).toBe(401);
    expect(await status(`Bearer ${token}0`)).toBe(401);
    expect(await status(`Basic ${token}`)).toBe(401);
    const told = await api.ask("vmm.ping");
    expect(told.headers.get("www-authenticate")).toBe("Bearer");
    expect(await told.json()).toEqual(["The token is missing or wrong"]);
  });

  test("may listen on every address", async () => {
    await using api = start("0.0.0.0:0", tokenFile(token));
    expect((await api.ask("vmm.ping")).status).toBe(401);
  });

  test("is particular about its file", () => {
    expect(refused("127.0.0.1:0", tokenFile(token, 0o644))).toContain("chmod 600 it");
    expect(refused("127.0.0.1:0", tokenFile("short"))).toContain("at least 16 characters");
    expect(refused("127.0.0.1:0", tokenFile(`${token} ${token}`))).toContain("no word");
    expect(refused("127.0.0.1:0", join(folder, "none"))).toContain("ENOENT");
  });
});

describe("without a token", () => {
  test.each(["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0"])("%s is refused", (address) => {
    expect(refused(address)).toBe(
      `--api-listen ${address}: reached from other hosts, and no token is asked for; add --api-token-file FILE`,
    );
  });

  test("pages of a browser on this host are refused", async () => {
    await using api = start();
    const status = async (headers: Record<string, string>) =>
      (await api.ask("vmm.ping", { headers })).status;

    expect(await status({ host: "evil.example:80" })).toBe(403); // a name that leads to 127.0.0.1
    expect(await status({ origin: "http://evil.example" })).toBe(403);
    expect(await status({ origin: `http://127.0.0.1:${api.port}` })).toBe(200);
    expect(await status({ host: `localhost:${api.port}` })).toBe(200);
  });
});

test("what is no address, or is taken, is refused in one line", async () => {
  await using api = start();
  for (const text of ["8080", "127.0.0.1", "127.0.0.1:99999", "::1:80", ""]) {
    expect(refused(text)).toBe(
      `--api-listen ${text}: no ADDR:PORT, such as 127.0.0.1:8080; give one`,
    );
  }
  expect(refused(`127.0.0.1:${api.port}`)).toBe(
    `--api-listen 127.0.0.1:${api.port}: EADDRINUSE; choose another port`,
  );
});

test("a WebSocket to a console that is not there is refused like any request", async () => {
  await using api = start();
  const headers = { upgrade: "websocket", connection: "Upgrade", "sec-websocket-version": "13" };
  const response = await api.ask("vm.console", { headers });
  expect([response.status, ((await response.json()) as string[])[0]]).toEqual([
    404,
    "vm.console failed",
  ]);
});
