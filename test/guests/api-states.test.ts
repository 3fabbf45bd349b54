/**
 * Every operation in every state, by curl: the status as written down here by hand, and the answer as the served
 * OpenAPI document says.
 */
import { expect, test } from "bun:test";
import { problems } from "../http/schema.ts";
import { ApiProcess } from "./api.ts";
import { buildGuest } from "./build.ts";
import { guestTimeoutMs } from "./harness.ts";

const states = ["None", "Created", "Running", "Paused", "Shutdown"] as const;
type State = (typeof states)[number];

const device = [404, 204, 501, 501, 204];
/** Method, operation, body, and the statuses in the order of the states. */
const table: [method: "GET" | "PUT", operation: string, body: unknown, statuses: number[]][] = [
  ["GET", "vmm.ping", undefined, [200, 200, 200, 200, 200]],
  ["GET", "openapi.json", undefined, [200, 200, 200, 200, 200]],
  ["GET", "metrics", undefined, [200, 200, 200, 200, 200]],
  ["GET", "events?follow=false", undefined, [200, 200, 200, 200, 200]],
  ["GET", "vm.info", undefined, [404, 200, 200, 200, 200]],
  ["GET", "vm.counters", undefined, [404, 409, 200, 200, 409]],
  ["GET", "vm.console?follow=false", undefined, [404, 409, 200, 200, 200]],
  ["PUT", "vm.console.write", { data: "x" }, [404, 409, 204, 204, 409]],
  ["PUT", "vm.wait", { for: "exit", timeout_ms: 0 }, [404, 408, 408, 408, 200]],
  ["PUT", "vm.create", { payload: { kernel: "/k" } }, [204, 409, 409, 409, 409]],
  ["PUT", "vm.boot", undefined, [404, 204, 409, 204, 204]],
  ["PUT", "vm.pause", undefined, [404, 409, 204, 409, 409]],
  ["PUT", "vm.resume", undefined, [404, 409, 409, 204, 409]],
  ["PUT", "vm.shutdown", undefined, [404, 409, 204, 204, 409]],
  ["PUT", "vm.reboot", undefined, [404, 409, 204, 204, 409]],
  ["PUT", "vm.delete", undefined, [204, 204, 204, 204, 204]],
  ["PUT", "vm.power-button", undefined, [404, 409, 204, 409, 409]],
  ["PUT", "vm.nmi", undefined, [404, 409, 204, 409, 409]],
  ["PUT", "vm.resize", { desired_vcpus: 2 }, [404, 501, 501, 501, 501]],
  ["PUT", "vm.resize-disk", { id: "none", desired_size: 512 }, [404, 409, 404, 404, 409]],
  ["PUT", "vm.add-disk", { path: "/none" }, device],
  ["PUT", "vm.add-net", { tap: "none" }, device],
  ["PUT", "vm.add-fs", { tag: "none", socket: "/none" }, device],
  ["PUT", "vm.add-pmem", { file: "/none" }, device],
  ["PUT", "vm.add-device", { path: "/none" }, device],
  ["PUT", "vm.add-vsock", { cid: 3, socket: "/none" }, device],
  ["PUT", "vm.remove-device", { id: "none" }, [404, 404, 501, 501, 404]],
  ["PUT", "vmm.shutdown", undefined, [200, 200, 200, 200, 200]],
];

/** The way to a state, from any other. */
async function reach(chv: ApiProcess, state: State): Promise<void> {
  const steps: [string, unknown?][] = [["vm.delete"]];
  const payload = { kernel: await buildGuest("pause"), cmdline: `count=${2 ** 40}` };
  const ends = { serial: { mode: "Null" }, console: { mode: "Off" } };
  if (state !== "None") {
    steps.push(["vm.create", { payload, memory: { size: 64 * 2 ** 20 }, ...ends }]);
  }
  if (state !== "None" && state !== "Created") steps.push(["vm.boot"]);
  if (state === "Paused") steps.push(["vm.pause"]);
  if (state === "Shutdown") steps.push(["vm.shutdown"]);
  for (const [operation, body] of steps) expect(await chv.put(operation, body)).toBe(204);
}

interface OpenApi {
  readonly [key: string]: unknown;
  readonly paths: Record<string, Record<string, { responses: Record<string, Described> }>>;
}
interface Described {
  readonly content?: Record<string, { schema: Record<string, unknown> }>;
}

/** What of an answer the document does not say. */
function undocumented(document: OpenApi, method: string, operation: string, answer: Answer) {
  const { status, body, type } = answer;
  const path = document.paths[`/${operation.split("?")[0]}`];
  const described = path?.[method.toLowerCase()]?.responses[status];
  if (!described) return [`${status} is not documented`];
  const { content } = described;
  if (content === undefined) return body === "" ? [] : ["a body where there is none"];
  const found = content[type.split(";")[0]!];
  if (!found) return [`the type ${type} is not documented`];
  const { schema } = found;
  if (schema.type === "string") return [];
  return problems(document, schema, JSON.parse(body));
}

type Answer = Awaited<ReturnType<ApiProcess["ask"]>>;

test.each(states.map((state, index) => ({ state, index })))(
  "every operation in state $state",
  async ({ state, index }) => {
    await using chv = await ApiProcess.start("--on-poweroff", "keep");
    const document = JSON.parse((await chv.ask("GET", "openapi.json")).body) as OpenApi;
    const operations = table.map(([, operation]) => operation.split("?")[0]!);
    expect(
      Object.keys(document.paths)
        .map((path) => path.slice(1))
        .toSorted(),
    ).toEqual(operations.toSorted());
    let changed = true;
    for (const [method, operation, body, statuses] of table) {
      if (changed) await reach(chv, state);
      const answer = await chv.ask(method, operation, body);
      const found = undocumented(document, method, operation, answer);
      expect([operation, answer.status, found]).toEqual([operation, statuses[index]!, []]);
      changed = answer.status === 204;
    }
    expect((await chv.ended()).exitCode).toBe(0);
  },
  2 * guestTimeoutMs,
);

test(
  "errors as problem documents, wrong methods, and what is not there",
  async () => {
    await using chv = await ApiProcess.start();
    const document = JSON.parse((await chv.ask("GET", "openapi.json")).body) as OpenApi;
    for (const [method, operation, body] of table.slice(0, -1)) {
      const wrong = await chv.ask(method === "GET" ? "PUT" : "GET", operation);
      expect([operation, wrong.status]).toEqual([operation, 405]);
      const accept = "application/problem+json";
      const answer = await chv.ask(method, operation, body, accept);
      if (answer.status < 400) continue;
      expect([operation, answer.type]).toEqual([operation, accept]);
      expect(undocumented(document, method, operation, answer)).toEqual([]);
      expect(JSON.parse(answer.body).status).toBe(answer.status);
      await chv.put("vm.delete");
    }
    expect((await chv.ask("GET", "vm.none")).status).toBe(404);
    expect((await chv.ask("PUT", "vm.boot", {})).status).toBe(400); // it takes no body
  },
  guestTimeoutMs,
);
