/** Bodies that nobody should send: always a JSON answer, never a fault of chv's own, and the next request is served. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { operations } from "../../src/http/operations.ts";
import { log } from "../../src/log.ts";
import { type Answer, type Client, type Rig, startApi } from "./rig.ts";

/** A fuse: what takes so long does not come. */
const patienceMs = 600_000;

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

const withBody = Object.entries(operations)
  .filter(([, { body }]) => body !== undefined)
  .map(([name]) => name);

/** A good configuration, of which parts are replaced. */
const good = {
  payload: { kernel: "/k", cmdline: "panic=1" },
  cpus: {
    ...{ boot_vcpus: 2, max_vcpus: 4, max_phys_bits: 46 },
    topology: { threads_per_core: 1, cores_per_die: 4, dies_per_package: 1, packages: 1 },
  },
  memory: { size: 2 ** 29, hotplug_size: 0, zones: [{ id: "a", size: 4096 }] },
  disks: [{ path: "/d", rate_limiter_config: { ops: { size: 1, refill_time: 2 } } }],
  net: [{ tap: "t", mac: "02:00:00:00:00:01", num_queues: 2 }],
  fs: [{ tag: "t", socket: "/s" }],
  vsock: [{ cid: 3, sock: "/s" }],
  kernel: { path: "/k" },
  serial: { mode: "Null" },
  balloon: { size: 0 },
  for: "login",
  timeout_ms: 0,
  data: "text",
  id: "d",
};

const odd = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom<unknown>(1e308, -1, 2 ** 53, 0.5, "", "\0", "9".repeat(400), "__proto__", [], {}),
  fc.constantFrom<unknown>("../".repeat(2000), "constructor", [[[[]]]], { length: -1 }, [null]),
);

/** Every path through an object. */
function paths(value: unknown, path: readonly string[] = []): (readonly string[])[] {
  if (typeof value !== "object" || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, inner]) => paths(inner, [...path, key]))];
}

function replaced(value: unknown, [key, ...rest]: readonly string[], by: unknown): unknown {
  if (key === undefined) return by;
  const copy = (Array.isArray(value) ? [...value] : { ...(value as object) }) as never;
  (copy as Record<string, unknown>)[key] = replaced((value as never)[key], rest, by);
  return copy;
}

const changed = fc
  .array(fc.tuple(fc.constantFrom(...paths(good).slice(1)), odd), { minLength: 1, maxLength: 3 })
  .map((changes) => {
    let body: unknown = good;
    for (const [path, by] of changes) {
      try {
        body = replaced(body, path, by);
      } catch {
        // an earlier change has taken the place away
      }
    }
    return body;
  });

const characters = fc
  .array(fc.integer({ min: 0, max: 0xffff }), { minLength: 1 })
  .map((codes) => String.fromCharCode(...codes));

function isAnswer({ status, head, body }: Answer): void {
  expect(status).toBeGreaterThanOrEqual(200);
  expect([500, 503]).not.toContain(status);
  if (status === 204) return;
  expect(head).toContain("\r\nContent-Type: application/json\r\n");
  const told: unknown = JSON.parse(body);
  if (status < 400) return;
  expect(told).toBeArray();
  expect(body.length).toBeLessThan(4096);
  for (const line of told as unknown[]) expect(line).toBeString();
}

test(
  "any JSON in any operation, and good bodies with something odd in them",
  async () => {
    const body = fc.oneof(
      { weight: 1, arbitrary: fc.jsonValue() },
      { weight: 4, arbitrary: changed },
    );
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...withBody), body, async (operation, json) => {
        isAnswer(await client.ask("PUT", operation, JSON.stringify(json)));
        const info = await client.ask("GET", "vm.info");
        expect([200, 404]).toContain(info.status);
        if (operation === "vm.create") await client.ask("PUT", "vm.delete");
      }),
      { numRuns: 150 },
    );
  },
  patienceMs,
);

test(
  "text that is no JSON",
  async () => {
    await fc.assert(
      fc.asyncProperty(characters, async (text) => {
        isAnswer(await client.ask("PUT", "vm.create", text));
        await client.ask("PUT", "vm.delete");
      }),
      { numRuns: 40 },
    );
  },
  patienceMs,
);

test.each([
  ["arrays", "[".repeat(250_000)],
  ["arrays that end", "[".repeat(125_000) + "]".repeat(125_000)],
  ["objects", `${'{"a":'.repeat(40_000)}1${"}".repeat(40_000)}`],
  ["where a list is", `{"disks":${"[".repeat(100_000)}${"]".repeat(100_000)}}`],
])("deep nesting: %s", async (_, text) => {
  const answer = await client.ask("PUT", "vm.create", text);
  isAnswer(answer);
  await client.ask("PUT", "vm.delete");
  expect((await client.ask("GET", "vmm.ping")).status).toBe(200);
});

test("many keys that nobody knows, and one object many times over", async () => {
  const keys = Array.from({ length: 15_000 }, (_, i) => `"key${i}":0`).join();
  isAnswer(await client.ask("PUT", "vm.create", `{${keys}}`));
  await client.ask("PUT", "vm.delete");
  const disks = new Array(15_000).fill('{"path":"/d"}').join();
  isAnswer(await client.ask("PUT", "vm.create", `{"disks":[${disks}]}`));
  await client.ask("PUT", "vm.delete");
});
