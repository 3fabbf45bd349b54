/** `chv ctl`: drives a VMM by its API's socket, with the command names of Cloud Hypervisor's ch-remote. */
import { readFileSync } from "node:fs";
import { ExitCode, UsageError } from "../exit-codes.ts";
import { ApiClient, NobodyError, RefusedError } from "../http/client.ts";
import {
  DeviceConfig,
  DiskConfig,
  FsConfig,
  NetConfig,
  PmemConfig,
  VsockConfig,
} from "../machine/config/devices.ts";
import type { ObjectSchema } from "../machine/config/shape.ts";
import type { CommandInput } from "./command.ts";
import type { CtlOptions } from "./ctl-options.ts";
import { showReply } from "./ctl-output.ts";
import { nearest, quoted } from "./nearest.ts";
import { readOptions } from "./options.ts";

interface Call {
  readonly client: ApiClient;
  readonly options: CtlOptions;
  /** What follows the command's name. */
  readonly words: readonly string[];
}

interface CtlCommand {
  /** What it takes, in capitals; "" for nothing; in brackets what may be left out. */
  readonly takes: string;
  /** The API's operation, whose summary says what it does. */
  readonly operation: string;
  /** Names of its options. */
  readonly options?: readonly (keyof CtlOptions)[];
  readonly run: (call: Call) => Promise<unknown>;
}

/** An operation without a body. */
const plain = (operation: string, method: "get" | "put" = "put"): CtlCommand => ({
  ...{ takes: "", operation },
  run: ({ client }) => client.call(method, operation),
});

/** An operation whose body is written as the command line's option is. */
const adds = (operation: string, schema: ObjectSchema): CtlCommand => ({
  ...{ takes: "KEY=VALUE,…", operation },
  run: ({ client, words }) => {
    const name = operation.slice("vm.".length);
    return client.call("put", operation, readOptions(schema, words[0]!, name));
  },
});

const commands: Readonly<Record<string, CtlCommand>> = {
  ping: plain("vmm.ping", "get"),
  "shutdown-vmm": plain("vmm.shutdown"),
  create: {
    ...{ takes: "FILE|-", operation: "vm.create" },
    run: ({ client, words }) => client.call("put", "vm.create", readText(words[0]!)),
  },
  info: plain("vm.info", "get"),
  counters: plain("vm.counters", "get"),
  boot: plain("vm.boot"),
  pause: plain("vm.pause"),
  resume: plain("vm.resume"),
  shutdown: plain("vm.shutdown"),
  reboot: plain("vm.reboot"),
  delete: plain("vm.delete"),
  "power-button": plain("vm.power-button"),
  nmi: plain("vm.nmi"),
  "add-disk": adds("vm.add-disk", DiskConfig),
  "add-net": adds("vm.add-net", NetConfig),
  "add-fs": adds("vm.add-fs", FsConfig),
  "add-pmem": adds("vm.add-pmem", PmemConfig),
  "add-device": adds("vm.add-device", DeviceConfig),
  "add-vsock": adds("vm.add-vsock", VsockConfig),
  "remove-device": {
    ...{ takes: "ID", operation: "vm.remove-device" },
    run: ({ client, words }) => client.call("put", "vm.remove-device", { id: words[0] }),
  },
  resize: {
    ...{ takes: "", operation: "vm.resize", options: ["cpus", "memory", "balloon"] },
    run: ({ client, options }) => {
      const { cpus: desired_vcpus, memory: desired_ram, balloon: desired_balloon } = options;
      return client.call("put", "vm.resize", { desired_vcpus, desired_ram, desired_balloon });
    },
  },
  "resize-disk": {
    ...{ takes: "", operation: "vm.resize-disk", options: ["disk", "size"] },
    run: ({ client, options: { disk: id, size: desired_size } }) =>
      client.call("put", "vm.resize-disk", { id, desired_size }),
  },
  wait: {
    ...{ takes: "userspace|login|exit|console:/REGEX/", operation: "vm.wait" },
    options: ["timeout"],
    run: ({ client, words, options }) =>
      client.call("put", "vm.wait", { for: words[0], timeout_ms: options.timeout }),
  },
  events: {
    ...{ takes: "", operation: "events", options: ["follow"] },
    run: async ({ client, options: { follow } }) => {
      const operation = follow ? "events" : "events?follow=false";
      const response = await client.request("get", operation, undefined, "application/x-ndjson");
      try {
        for await (const piece of response.body!) process.stdout.write(piece);
      } catch (error) {
        client.lost(error);
      }
    },
  },
  console: {
    ...{ takes: "[serial|console]", operation: "vm.console", options: ["follow"] },
    run: async ({ client, words, options: { follow } }) =>
      (await import("./ctl-console.ts")).attachConsole(client, words[0], follow),
  },
};

/** The commands with what each takes and does, a line each, for help. */
export async function ctlCommands(): Promise<string[]> {
  const { operations } = await import("../http/operations.ts");
  const rows = Object.entries(commands).map(([name, { takes, operation, options = [] }]) => {
    const more = options.map((option) => ` --${option}`).join("");
    return [`${name} ${takes}`.trim() + more, operations[operation]!.summary] as const;
  });
  const width = Math.max(...rows.map(([usage]) => usage.length));
  return rows.map(([usage, summary]) => `${usage.padEnd(width)}  ${summary}`);
}

function readText(file: string): string {
  try {
    return readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    const { code } = error as { code?: string };
    throw new UsageError(`ctl create: ${file} cannot be read (${code}); name a JSON file, or -`);
  }
}

/** Gives the exit code: 1 when the VMM refused. */
export async function runCtl({ options, positionals, vmm }: CommandInput): Promise<number> {
  const path = vmm.apiSocket?.path;
  if (path === undefined) {
    throw new UsageError("ctl: no socket; give it with --api-socket PATH", "--api-socket");
  }
  const [name, ...words] = positionals;
  if (name === undefined)
    throw new UsageError(`ctl: no command; one of ${Object.keys(commands).join(", ")}`);
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined) {
    const meant = nearest(name, Object.keys(commands));
    throw new UsageError(`ctl: unknown command ${quoted(name)}; did you mean ${meant}?`);
  }
  const most = command.takes === "" ? 0 : 1;
  const least = command.takes.startsWith("[") ? 0 : most;
  if (words.length < least || words.length > most) {
    throw new UsageError(`ctl ${name}: takes ${command.takes || "nothing"}, got ${words.length}`);
  }
  try {
    const call = { client: new ApiClient(path), options: options as CtlOptions, words };
    showReply(await command.run(call));
    return 0;
  } catch (error) {
    return failed(error);
  }
}

const requestTimeout = 408;
const refused = 1;

function failed(error: unknown): number {
  if (error instanceof NobodyError) {
    process.stderr.write(`chv: ${error.message}\n`);
    return ExitCode.configuration;
  }
  if (!(error instanceof RefusedError)) throw error;
  process.stderr.write(`chv: ${error.message} (${error.status})\n`);
  return error.status === requestTimeout ? ExitCode.timeout : refused;
}
