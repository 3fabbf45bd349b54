/** The API of a real chv, as a user drives it: with curl, on a guest that really runs. */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "../http/rig.ts";
import { ApiProcess } from "./api.ts";
import { buildGuest } from "./build.ts";
import { chvCommand, guestTimeoutMs } from "./harness.ts";
import { namesOf } from "./process.ts";

/** A guest that reads a port for ever, or `count` times. */
async function machine(serial: object = { mode: "Null" }, count = 2 ** 40): Promise<object> {
  const payload = { kernel: await buildGuest("pause"), cmdline: `count=${count}` };
  return { payload, memory: { size: 64 * 2 ** 20 }, serial, console: { mode: "Off" } };
}

const tests = (name: string, run: () => Promise<void>) => test(name, run, guestTimeoutMs);

tests("a life: created, running, paused, shut down, running again, deleted", async () => {
  await using chv = await ApiProcess.start();
  const states: string[] = [];
  let lives = 0;
  const runs = async () => {
    const { body } = await chv.ask("GET", "events?follow=false");
    return body.split('"event":"first-run"').length - 1;
  };
  const after = async (operation: string, body?: unknown) => {
    expect(await chv.put(operation, body)).toBe(204);
    // a guest that is paused before its processor's turn has come runs for the first time later
    if (operation === "vm.reboot") lives++;
    if (operation === "vm.boot" && states.at(-1) !== "Paused") lives++;
    while ((await runs()) < lives);
    states.push((await chv.info()).state);
  };

  await after("vm.create", await machine());
  for (const operation of ["vm.boot", "vm.pause", "vm.resume", "vm.pause", "vm.boot"]) {
    await after(operation);
  }
  for (const operation of ["vm.reboot", "vm.pause", "vm.reboot", "vm.shutdown", "vm.boot"]) {
    await after(operation);
  }
  expect(states.join(" ")).toBe(
    "Created Running Paused Running Paused Running Running Paused Running Shutdown Running",
  );

  expect(await chv.put("vm.delete")).toBe(204);
  const { body } = await chv.ask("GET", "events?follow=false");
  const told = body
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))
    .map(({ source, event }) => (source === "vm" ? event : `${source}/${event}`));
  const booting = ["booting", "first-run"];
  expect(told).toEqual([
    ...["vmm/starting", "vmm/api-ready", "created", ...booting, "paused", "resumed", "paused"],
    ...["resumed", "reset", "first-run", "paused", "reset", "first-run", "shutdown", ...booting],
    ...["shutdown", "deleted"],
  ]);
  expect((await chv.ask("GET", "vm.info")).status).toBe(404);
  expect(await chv.put("vm.delete")).toBe(204);
  expect(await chv.put("vmm.shutdown")).toBe(200);
  expect((await chv.ended()).exitCode).toBe(0);
  expect(readdirSync(chv.folder)).toEqual([]);
});

tests("what is refused changes nothing, and what failed can be tried again", async () => {
  await using chv = await ApiProcess.start();
  const config = await machine();

  expect(await chv.put("vm.boot")).toBe(404);
  expect(await chv.put("vm.create", { payload: { kernel: "/nowhere/kernel" } })).toBe(204);
  expect(await chv.put("vm.create", config)).toBe(409);
  const refused = await chv.ask("PUT", "vm.boot");
  expect([refused.status, JSON.parse(refused.body)[1]]).toEqual([
    400,
    "--kernel /nowhere/kernel: no such file or directory; name a file that chv may read",
  ]);
  expect((await chv.info()).state).toBe("Created");
  expect(await chv.put("vm.pause")).toBe(409);

  expect(await chv.put("vm.delete")).toBe(204);
  expect(await chv.put("vm.create", config)).toBe(204);
  expect(await chv.put("vm.boot")).toBe(204);
  expect(await chv.put("vm.boot")).toBe(409);
});

tests("the guest's power-off ends the process, unless it is to be kept", async () => {
  const config = await machine({ mode: "Null" }, 10);
  {
    await using chv = await ApiProcess.start();
    await chv.put("vm.create", config);
    await chv.put("vm.boot");
    expect((await chv.ended()).exitCode).toBe(0);
  }
  await using chv = await ApiProcess.start("--on-poweroff", "keep");
  await chv.put("vm.create", config);
  await chv.put("vm.boot");
  const exit = await chv.ask("PUT", "vm.wait", { for: "exit", timeout_ms: 60_000 });
  expect(JSON.parse(exit.body).event).toBe("poweroff");
  while ((await chv.info()).state !== "Shutdown");
  expect(await chv.put("vm.boot")).toBe(204);
});

test.each(["vmm.shutdown", "SIGTERM"])(
  "whoever waits for the guest hears of its end by %s, and holds up nothing",
  async (how) => {
    await using chv = await ApiProcess.start();
    await chv.put("vm.create", await machine());
    await chv.put("vm.boot");
    const ask = async (method: string, operation: string, body?: unknown) => {
      const client = await Client.to(chv.socket);
      return { client, answer: client.ask(method, operation, body) };
    };
    const waits = await Promise.all(
      ["exit", "login", "console:/never/"].map((goal) => ask("PUT", "vm.wait", { for: goal })),
    );
    const following = await ask("GET", "events");
    // what was asked before this is heard before it
    while (!(await chv.ask("GET", "vm.console?follow=false")).body.includes("reading"));

    if (how === "SIGTERM") chv.kill("SIGTERM");
    else expect(await chv.put(how)).toBe(200);

    const [exit, login, line] = await Promise.all(waits.map(({ answer }) => answer));
    expect([exit!.status, JSON.parse(exit!.body).event]).toEqual([200, "shutdown"]);
    const first = "did not come: vm/shutdown came first";
    for (const [answer, what] of [[login!, "login"] as const, [line!, "/never/"] as const]) {
      expect([answer.status, JSON.parse(answer.body)[1]]).toEqual([409, `${what} ${first}`]);
    }
    await following.answer;
    expect(await following.client.closed()).toContain('"event":"shutdown"');
    expect((await chv.ended()).exitCode).toBe(0);
  },
  guestTimeoutMs,
);

tests("a machine of the command line is the API's too", async () => {
  const kernel = await buildGuest("pause");
  const more = ["--memory", "64M", "--serial", "null", "--console", "off"];
  await using chv = await ApiProcess.start(
    "--kernel",
    kernel,
    "--cmdline",
    "count=99999999",
    ...more,
  );

  expect(await chv.info()).toMatchObject({ state: "Running", config: { payload: { kernel } } });
  expect(namesOf(chv.pid, /^vcpu/)).toEqual(["vcpu0"]);
  for (const fd of [1, 2]) expect(readdirSync(`/proc/${chv.pid}/fd`)).toContain(`${fd}`);
  expect(await chv.put("vm.pause")).toBe(204);
});

tests(
  "one instance to a path: the second names the first; a killed one leaves no trouble",
  async () => {
    await using first = await ApiProcess.start();
    const second = new ApiProcess(
      [...(await chvCommand()), "--api-socket", first.socket],
      first.folder,
    );
    const { exitCode, stderr } = await second.ended();
    expect(exitCode).toBe(242);
    expect(stderr).toBe(
      `chv: --api-socket ${first.socket}: in use by process ${first.pid}; end it first, or name another path\n`,
    );

    expect(statSync(first.socket).mode & 0o777).toBe(0o600);
    first.kill("SIGKILL");
    await first.ended();
    expect(statSync(first.socket).isSocket()).toBe(true);
    const third = await ApiProcess.startIn(first.folder);
    expect((await third.ask("GET", "vmm.ping")).status).toBe(200);
    third.kill("SIGTERM");
    expect((await third.ended()).exitCode).toBe(0);
    expect(readdirSync(first.folder)).toEqual([]);
  },
);

/** What a process has of the host. */
const held = (pid: number) => ({
  descriptors: readdirSync(`/proc/${pid}/fd`).length,
  threads: readdirSync(`/proc/${pid}/task`).length,
  mappings: readFileSync(`/proc/${pid}/maps`, "utf8").split("\n").length,
  residentMiB:
    Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024,
});

/** Every device that needs nothing of the host, and a disk with threads of its own. */
tests(
  "a machine whose kernel is gone when it starts over is shut down, and boots again",
  async () => {
    await using chv = await ApiProcess.start();
    const config = (await machine()) as { payload: { kernel: string } };
    const kernel = join(chv.folder, "kernel");
    const whole = readFileSync(config.payload.kernel);
    writeFileSync(kernel, whole);
    const payload = { ...config.payload, kernel };
    for (const operation of ["vm.create", "vm.boot"]) {
      const body = operation === "vm.create" ? { ...config, payload } : undefined;
      expect(await chv.put(operation, body)).toBe(204);
    }

    writeFileSync(kernel, "nothing that boots"); // the same file: it is cut short
    const { status, body } = await chv.ask("PUT", "vm.reboot");
    const { state } = await chv.info();
    writeFileSync(kernel, whole);
    const again = await chv.put("vm.boot");

    expect([status, state, again]).toEqual([400, "Shutdown", 204]);
    expect(body).toContain("the file shrank while it was read");
    expect((await chv.info()).state).toBe("Running");
  },
);

async function crowded(chv: ApiProcess): Promise<object> {
  const disk = join(chv.folder, "disk");
  writeFileSync(disk, new Uint8Array(2 ** 20));
  return {
    ...(await machine()),
    cpus: { boot_vcpus: 2 },
    console: { mode: "Pty" },
    disks: [{ path: disk, num_queues: 2, io_threads: 2, image_type: "Raw" }],
    pmem: [{ file: chv.folder, size: 2 ** 21 }],
    ...{ balloon: { size: 2 ** 20 }, watchdog: true, pvpanic: true },
    ports: [{ name: "port", mode: "Null" }],
  };
}

test.each([
  ["100 reboots", ["vm.reboot"], 100],
  ["50 times shut down and booted", ["vm.shutdown", "vm.boot"], 50],
  ["20 times deleted and created", ["vm.delete", "vm.create", "vm.boot"], 20],
] as const)(
  "%s leave nothing behind",
  async (_, operations, times) => {
    await using chv = await ApiProcess.start();
    const config = await crowded(chv);
    const step = async (operation: string) => {
      const body = operation === "vm.create" ? config : undefined;
      expect([operation, await chv.put(operation, body)]).toEqual([operation, 204]);
    };
    for (const operation of ["vm.create", "vm.boot"]) await step(operation);
    const run = async (count: number) => {
      for (let i = 0; i < count; i++) for (const operation of operations) await step(operation);
    };
    /** With all its threads there: a pause waits for those that are still starting. */
    const heldThen = async () => {
      await step("vm.pause");
      const now = held(chv.pid);
      await step("vm.resume");
      return now;
    };

    await run(times / 5);
    const before = await heldThen();
    // a thread of the last boot may still be on its way; one of each boot would be far more
    const most = {
      ...{ descriptors: before.descriptors + 4, threads: before.threads + 2 },
      ...{ mappings: before.mappings + 40, residentMiB: before.residentMiB + 40 },
    };
    const over = (now: typeof before) =>
      (Object.keys(most) as (keyof typeof most)[]).filter((what) => now[what] > most[what]);

    // the runtime's collector and its threads come and go as they like; what is left behind only grows with each life
    await run((times * 4) / 5);
    let after = await heldThen();
    for (let more = 0; more < 10 && over(after).length > 0; more++) {
      await run(times / 5);
      after = await heldThen();
    }
    expect({ over: over(after), before, after }).toEqual({ over: [], before, after });
  },
  guestTimeoutMs,
);

describe("a console", () => {
  const talk = async (mode = "Null") => ({
    ...{ payload: { kernel: await buildGuest("talk") }, memory: { size: 64 * 2 ** 20 } },
    ...{ serial: { mode }, console: { mode: "Off" } },
  });
  const type = (chv: ApiProcess, data: string) => chv.put("vm.console.write", { data });
  const waitFor = (chv: ApiProcess, what: string, timeout_ms = 60_000) =>
    chv.ask("PUT", "vm.wait", { for: what, timeout_ms });

  tests("is watched for a login, typed into, waited for and read", async () => {
    await using chv = await ApiProcess.start("--on-poweroff", "keep");
    await chv.put("vm.create", await talk());
    expect(await type(chv, "x")).toBe(409);
    await chv.put("vm.boot");

    const login = await waitFor(chv, "login");
    expect(JSON.parse(login.body)).toMatchObject({
      ...{ source: "guest", event: "login", properties: { console: "serial" } },
    });
    expect((await waitFor(chv, "login", 0)).status).toBe(200); // it has happened
    expect(await type(chv, "first line\nsecond ")).toBe(204);
    expect(await type(chv, "line\n")).toBe(204);
    const line = await waitFor(chv, "console:/told s\\w+ l[a-z]ne$/");
    expect(JSON.parse(line.body)).toEqual({ console: "serial", line: "told second line" });
    expect((await waitFor(chv, "console:/(a+)+$b/", 50)).status).toBe(408);
    expect((await waitFor(chv, "console:/(/")).status).toBe(400);
    expect((await chv.ask("GET", "vm.console?console=none")).status).toBe(404);

    const end = waitFor(chv, "console:/never/");
    await type(chv, "bye\n");
    expect((await end).status).toBe(409);
    expect((await waitFor(chv, "exit")).status).toBe(200);
    expect((await waitFor(chv, "console:/never/")).status).toBe(409); // its life is over
    expect((await waitFor(chv, "console:/told bye/")).status).toBe(200);
    const said = await chv.ask("GET", "vm.console?follow=false");
    expect(said.body.replaceAll("\r", "")).toContain(
      "booted\nmicro login: told first line\ntold second line\ntold bye\n",
    );
  });

  tests("of a guest that starts over asks for its login anew", async () => {
    await using chv = await ApiProcess.start();
    await chv.put("vm.create", await talk());
    await chv.put("vm.boot");
    await waitFor(chv, "login");

    const { body } = await chv.ask("GET", "events?follow=false");
    const count = (text: string) => text.split('"event":"login"').length - 1;
    expect(count(body)).toBe(1);
    await type(chv, "again\n");
    while (count((await chv.ask("GET", "events?follow=false")).body) < 2);
    expect((await waitFor(chv, "console:/told again/", 50)).status).toBe(408); // said in another life
  });

  tests("may be followed until the machine ends", async () => {
    await using chv = await ApiProcess.start("--on-poweroff", "keep");
    await chv.put("vm.create", await talk());
    await chv.put("vm.boot");
    const following = chv.ask("GET", "vm.console");
    await waitFor(chv, "login");
    await type(chv, "bye\n");

    expect((await following).body).toContain("told bye");
  });
});
