/**
 * The API's operations: the one table of which the routes, the command line's `ctl` and the OpenAPI document are made.
 * Names, methods and bodies are Cloud Hypervisor's.
 */
import * as v from "valibot";
import { version } from "../../package.json";
import { log } from "../log.ts";
import { checkConfig } from "../machine/config/check.ts";
import { size } from "../machine/config/field.ts";
import { complete, VmConfigSchema } from "../machine/config/vm.ts";
import { resizeDisk } from "../machine/virtio/resize.ts";
import { VmmError } from "../machine/vmm/errors.ts";
import { vmStates } from "../machine/vmm/states.ts";
import type { Vmm } from "../machine/vmm/vmm.ts";
import { type Goal, waitFor } from "../machine/vmm/wait.ts";
import { consoleResponse, waitForLine, writeConsole } from "./console.ts";
import { deviceOperations } from "./devices.ts";
import { toDialect } from "./dialect.ts";
import { ApiError } from "./errors.ts";
import { eventsResponse } from "./events.ts";
import { vmInfo } from "./info.ts";
import { metricsResponse } from "./metrics.ts";
import { type Operation, operation } from "./operation.ts";

/** The longest time that a timer takes, in ms: 24 days. */
const timerMax = 2 ** 31 - 1;
const forWords = "userspace, login, exit or console:/REGEX/";

const PingReply = v.object({
  version: v.string(),
  build_version: v.string(),
  pid: v.number(),
  features: v.array(v.string()),
});

const inTurn = (name: string, run: (vmm: Vmm) => Promise<void>) =>
  operation({ method: "put", summary: name, run: ({ vmm }) => run(vmm) });

const InfoReply = v.object({
  config: v.record(v.string(), v.unknown()),
  state: v.picklist(vmStates.filter((state) => state !== "None")),
  memory_actual_size: v.pipe(v.number(), v.integer()),
  device_tree: v.optional(
    v.record(
      v.string(),
      v.object({
        id: v.string(),
        resources: v.array(v.record(v.string(), v.unknown())),
        parent: v.nullable(v.string()),
        children: v.array(v.string()),
        pci_bdf: v.nullable(v.string()),
      }),
    ),
  ),
});

const CountersReply = v.record(v.string(), v.record(v.string(), v.number()));

const WaitReply = v.union([
  v.object({ source: v.string(), event: v.string(), sequence: v.number(), wall_ms: v.number() }),
  v.object({ console: v.string(), line: v.string() }),
]);

export const operations: Readonly<Record<string, Operation>> = {
  "vmm.ping": operation({
    method: "get",
    summary: "Tell that the VMM is there, and which",
    reply: PingReply,
    run: () => ({
      version,
      build_version: `v${version}`,
      pid: process.pid,
      features: ["kvm"],
    }),
  }),
  "vmm.shutdown": operation({
    method: "put",
    summary: "Stop the VM, if there is one, and end the process",
    emptyStatus: 200,
    run: async ({ vmm }) => {
      await vmm.close();
      vmm.end({ code: 0 });
    },
  }),
  "vm.create": operation({
    method: "put",
    summary: "Store a VM's configuration; nothing is opened",
    body: VmConfigSchema,
    dialects: true,
    run: ({ vmm, dialect }, body) => {
      const config = complete(body);
      checkConfig(config);
      if (config.net?.some(({ fds = [] }) => fds.length > 0)) {
        throw new ApiError(400, "net: descriptors come with vm.add-net; leave fds out here");
      }
      return vmm.create(config, (shown) => toDialect(shown, dialect));
    },
  }),
  "vm.info": operation({
    method: "get",
    summary: "The VM's configuration and state",
    reply: InfoReply,
    run: ({ vmm }) => vmInfo(vmm),
  }),
  "vm.boot": inTurn("Boot the VM, or resume it when it is paused", (vmm) => vmm.boot()),
  "vm.pause": inTurn("Let the vCPUs and all I/O stand still", (vmm) => vmm.pause()),
  "vm.resume": inTurn("Let a paused VM go on", (vmm) => vmm.resume()),
  "vm.shutdown": inTurn("Stop the VM; its configuration stays", (vmm) => vmm.shutdown()),
  "vm.reboot": inTurn("Start the VM over", (vmm) => vmm.reboot()),
  "vm.delete": inTurn("Stop the VM, if it runs, and forget it", (vmm) => vmm.delete()),
  "vm.power-button": inTurn("Press the guest's power button", (vmm) =>
    vmm.withGuest("power-button", async ({ machine }) => machine.pressPowerButton()),
  ),
  "vm.nmi": inTurn("Send every vCPU a non-maskable interrupt", (vmm) =>
    vmm.withGuest("nmi", async ({ machine }) => machine.sendNmi()),
  ),
  ...deviceOperations,
  "vm.resize-disk": operation({
    ...{ method: "put", summary: "Make a raw disk larger" },
    body: v.object({ id: v.string(), desired_size: size("Its new size in bytes", { min: 1 }) }),
    run: ({ vmm }, { id, desired_size: bytes }) =>
      vmm.withGuest("resize-disk", async ({ machine }) => {
        if (!resizeDisk(machine.virtio, id, bytes))
          throw new ApiError(404, `No disk has the id ${id}`);
      }),
  }),
  "vm.counters": operation({
    ...{ method: "get", summary: "What each device has counted since the boot" },
    reply: CountersReply,
    run: ({ vmm }) => vmm.withGuest("counters", async ({ machine }) => machine.counters()),
  }),
  metrics: operation({
    ...{ method: "get", summary: "State and counters in Prometheus's format; also at /metrics" },
    type: "text/plain",
    run: ({ vmm }) => metricsResponse(vmm),
  }),
  "vm.wait": operation({
    ...{ method: "put", summary: "Wait until something has happened to the guest" },
    reply: WaitReply,
    body: v.object({
      for: v.pipe(
        v.string(),
        v.regex(/^(?:userspace|login|exit|console:\/.*\/)$/s, forWords),
        v.description(forWords),
      ),
      timeout_ms: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(timerMax))),
    }),
    run: ({ vmm, signal }, { for: goal, timeout_ms: timeoutMs }) => {
      if (vmm.state === "None") throw new VmmError("absent", "There is no VM; create one first");
      const pattern = /^console:\/(.*)\/$/s.exec(goal)?.[1];
      if (pattern !== undefined) return waitForLine(vmm, pattern, timeoutMs, signal);
      return waitFor(vmm.events, goal as Goal, timeoutMs, signal);
    },
  }),
  "vm.console": operation({
    ...{ method: "get", summary: "What a console has said, and what it says" },
    type: "application/octet-stream",
    query: {
      follow: "false: end with what it has said so far",
      console: "serial or console; the one that has said most if not given",
    },
    run: ({ vmm, signal, query }) => {
      const follow = query.get("follow") !== "false";
      return consoleResponse(vmm, { name: query.get("console") ?? undefined, follow }, signal);
    },
  }),
  "vm.console.write": operation({
    ...{ method: "put", summary: "Type into a console" },
    body: v.object({ data: v.string(), console: v.optional(v.string()) }),
    run: ({ vmm, signal }, { data, console }) => writeConsole(vmm, console, data, signal),
  }),
  events: operation({
    ...{ method: "get", summary: "What has happened and what happens, as NDJSON or SSE" },
    type: "application/x-ndjson",
    query: {
      follow: "false: end with what has happened so far",
      after: "The number of the last event that the client has",
    },
    run: ({ vmm, signal, query, accept }) => {
      const after = Number(query.get("after") ?? "0");
      if (!Number.isSafeInteger(after)) throw new ApiError(400, "after: expected a number");
      const follow = query.get("follow") !== "false";
      const sse = accept.includes("text/event-stream");
      return eventsResponse(vmm.events, { sse, follow, after }, signal);
    },
  }),
  "openapi.json": operation({
    ...{ method: "get", summary: "This document" },
    reply: v.record(v.string(), v.unknown()),
    run: async () => (await import("./openapi.ts")).openApi(operations),
  }),
  "vm.resize": operation({
    ...{ method: "put", summary: "Change the number of vCPUs or the RAM" },
    body: v.object({
      desired_vcpus: v.optional(v.number()),
      desired_ram: v.optional(v.number()),
      desired_balloon: v.optional(v.number()),
    }),
    run: ({ vmm }) => {
      if (vmm.state === "None") throw new VmmError("absent", "There is no VM; create one first");
      throw new VmmError("unbuilt", "A VM cannot be resized in this version of chv");
    },
  }),
};

const toldKeys = 8;
const toldLength = 60;

/** Unknown keys of a body are told once for each request: the first of them, and how many more. */
export function warnUnknown(name: string, unknown: readonly string[]): void {
  if (unknown.length === 0) return;
  const first = unknown.slice(0, toldKeys).map((key) => key.slice(0, toldLength));
  const more = unknown.length > toldKeys ? ` and ${unknown.length - toldKeys} more` : "";
  log.warn(`${name}: ignored what chv does not know: ${first.join(", ")}${more}`);
}
