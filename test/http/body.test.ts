/** Bodies that are refused, and how the answer names what is wrong. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { log } from "../../src/log.ts";
import { type Client, type Rig, startApi } from "./rig.ts";

let rig: Rig;
let client: Client;
beforeAll(async () => {
  log.setLevel(0); // of what is ignored in bodies there is a line each
  rig = await startApi();
  client = await rig.connect();
});
afterAll(async () => {
  await rig[Symbol.asyncDispose]();
  log.setLevel(1);
});

async function refused(operation: string, body: unknown): Promise<string> {
  const answer = await client.ask("PUT", operation, body);
  expect(answer.status).toBe(400);
  return JSON.parse(answer.body)[1];
}

test.each([
  ["the body", [], "body"],
  ["an object in it", { memory: [] }, "memory"],
  ["one further in", { disks: [{ rate_limiter_config: [] }] }, "disks[0].rate_limiter_config"],
])("an array is no object: %s", async (_, body, path) => {
  expect(await refused("vm.create", body)).toBe(
    `${path}: Invalid type: Expected Object but received Array`,
  );
});

test("a list has 256 items at most, also when they come one by one", async () => {
  const disks = (count: number) => ({ disks: new Array(count).fill({ path: "/d" }) });
  expect(await refused("vm.create", disks(257))).toBe(
    "disks: Expected at most 256 but received 257",
  );
  expect((await client.ask("PUT", "vm.create", disks(256))).status).toBe(204);
  expect(await refused("vm.add-disk", { path: "/d" })).toBe("disks: 256 are there; remove one");
  expect((await client.ask("PUT", "vm.remove-device", { id: "_disk7" })).status).toBe(204);
  expect((await client.ask("PUT", "vm.add-disk", { path: "/d" })).status).toBe(204);
  expect((await client.ask("PUT", "vm.delete")).status).toBe(204);
});

test("a body holds 10,000 values at most, known or not", async () => {
  const why = "The body holds more than 10000 values";
  expect(await refused("vm.create", { unknown: new Array(10_000).fill(0) })).toBe(why);
  const keys = Array.from({ length: 10_000 }, (_, i) => [`key${i}`, {}]);
  expect(await refused("vm.create", Object.fromEntries(keys))).toBe(why);
  const nested = `${"[".repeat(10_000)}${"]".repeat(10_000)}`;
  expect(await refused("vm.create", `{"unknown":${nested}}`)).toBe(why);
  const few = { unknown: new Array(9_000).fill(0) };
  expect((await client.ask("PUT", "vm.create", few)).status).toBe(204);
  expect((await client.ask("PUT", "vm.delete")).status).toBe(204);
});

test("a problem document names the field", async () => {
  const body = '{"disks":[{"path":5}]}';
  client.send(
    `PUT /api/v1/vm.create HTTP/1.1\r\nAccept: application/problem+json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  expect(JSON.parse((await client.answer()).body)).toEqual({
    ...{ type: "about:blank", title: "Bad Request", status: 400 },
    detail: "disks[0].path: Invalid type: Expected string but received 5",
    option: "disks[0].path",
  });
});

test("a wait that no timer could end is refused, not ended at once", async () => {
  await client.ask("PUT", "vm.create", { payload: { kernel: "/k" } });
  expect(await refused("vm.wait", { for: "login", timeout_ms: 2 ** 31 })).toStartWith(
    "timeout_ms: ",
  );
  expect(await refused("vm.wait", { for: "login", timeout_ms: 1e300 })).toStartWith("timeout_ms: ");
});

test.each([
  ["long", "x".repeat(501), "for: the pattern has more than 500 characters"],
  ["costly", "(?i)[a-z]{400}", "for: the pattern is too costly; repeat less in it"],
])("a pattern that is too %s is refused", async (_, pattern, why) => {
  expect(await refused("vm.wait", { for: `console:/${pattern}/` })).toBe(why);
});

test.each(["constructor", "toString", "__proto__", "hasOwnProperty"])(
  "%s is no operation",
  async (name) => {
    const { status, body } = await client.ask("GET", name);
    expect([status, JSON.parse(body)]).toEqual([404, [`There is no /api/v1/${name}`]]);
  },
);

test("what is no method, or no path, of this API", async () => {
  const asked = async (line: string) => {
    client.send(`${line} HTTP/1.1\r\nContent-Length: 0\r\n\r\n`);
    const { status, head } = await client.answer();
    expect(head).toContain("\r\nContent-Type: application/json\r\n");
    return status;
  };
  expect(await asked("POST /metrics")).toBe(405);
  expect(await asked("POST /api/v1/vm.info")).toBe(405);
  expect(await asked("OPTIONS *")).toBe(400);
  expect(await asked("PUT /metric")).toBe(404);
});

test("events are ASCII, whatever they hold", async () => {
  rig.vmm.events.tell("größe", "error", 0, { reason: "\u{1f980}\u007f" });
  const { head, body } = await client.ask("GET", "events?follow=false");
  expect(head).toContain("\r\nContent-Length: ");
  expect(body).toMatch(/^[\n\x20-\x7e]*$/);
  expect(JSON.parse(body.trim().split("\n").at(-1)!)).toMatchObject({
    ...{ source: "größe", properties: { reason: "\u{1f980}\u007f" } },
  });
});
