/**
 * The commands beside plain `chv`. A command has a schema of its own, of which its options are
 * made; its code is loaded when it runs.
 */

import * as v from "valibot";
import type * as BackendSchemas from "../machine/config/backends.ts";
import type { Command } from "./command.ts";
import type * as CtlOptions from "./ctl-options.ts";
import type * as RunOptions from "./run/options.ts";

const NoOptions = v.object({});
// Made when their command is given: plain chv does not need them.
const backendSchemas = () => require("../machine/config/backends.ts") as typeof BackendSchemas;
const ctlOptions = () => require("./ctl-options.ts") as typeof CtlOptions;
const runOptions = () => require("./run/options.ts") as typeof RunOptions;

/** Every command that there is, by name. */
export const commands: Readonly<Record<string, Command>> = {
  run: {
    description: "Boot an image, run a command in it, and hand on its output and exit status",
    get schema() {
      return runOptions().RunOptionsSchema;
    },
    positionals: [["IMAGE", "disk image, raw or qcow2, which is never written"]],
    takesRest: true,
    refuses: ["on-reboot", "on-poweroff", "on-panic"],
    run: async (input) => (await import("./run.ts")).runRun(input),
  },
  doctor: {
    description: "Check what of this host chv can use, and say the fix for the rest",
    schema: NoOptions,
    positionals: [],
    takesRest: false,
    run: async () => (await import("./doctor.ts")).runDoctor(),
  },
  ctl: {
    description: "Drive a VMM by its API's socket: chv ctl --api-socket PATH COMMAND",
    get schema() {
      return ctlOptions().CtlOptionsSchema;
    },
    positionals: [
      ["COMMAND", "info, create, boot, pause, …"],
      ["ARGUMENT", "what the command takes"],
    ],
    takesRest: false,
    more: async () => (await import("./ctl.ts")).ctlCommands(),
    run: async (input) => (await import("./ctl.ts")).runCtl(input),
  },
  "backend block": {
    description: "Run a block device's backend behind a vhost-user socket",
    get schema() {
      return backendSchemas().BlockBackendSchema;
    },
    positionals: [],
    takesRest: false,
    run: async ({ options }) => (await import("./backend.ts")).runBlock(options as never),
  },
  "backend net": {
    description: "Run a network interface's backend behind a vhost-user socket",
    get schema() {
      return backendSchemas().NetBackendSchema;
    },
    positionals: [],
    takesRest: false,
    run: async ({ options }) => (await import("./backend.ts")).runNet(options as never),
  },
};
