/**
 * The commands beside plain `chv`. A command has a schema of its own, of which its options are
 * made; its code is loaded when it runs.
 */

import * as v from "valibot";
import { BlockBackendSchema, NetBackendSchema } from "../machine/config/backends.ts";
import type { ObjectSchema } from "../machine/config/shape.ts";
import type { VmmOptions } from "../machine/config/vmm.ts";
import { CtlOptionsSchema } from "./ctl-options.ts";
import { RunOptionsSchema } from "./run/options.ts";

export interface Command {
  readonly description: string;
  readonly schema: ObjectSchema;
  /** Its positionals, in order: name and description. */
  readonly positionals: readonly (readonly [name: string, description: string])[];
  /** It takes arguments after `--`. */
  readonly takesRest: boolean;
  /** Lines for its help: the commands that it has itself. */
  readonly more?: () => Promise<readonly string[]>;
  /** Runs it; gives the exit code. */
  readonly run: (input: CommandInput) => Promise<number>;
}

export interface CommandInput {
  /** The output of the command's schema. */
  readonly options: unknown;
  readonly positionals: readonly string[];
  /** What followed `--`, byte for byte. */
  readonly rest: readonly string[];
  /** The options of the process: its log. */
  readonly vmm: VmmOptions;
}

const NoOptions = v.object({});

/** Every command that there is, by name. */
export const commands: Readonly<Record<string, Command>> = {
  run: {
    description: "Boot an image, run a command in it, and hand on its output and exit status",
    schema: RunOptionsSchema,
    positionals: [["IMAGE", "disk image, raw or qcow2, which is never written"]],
    takesRest: true,
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
    schema: CtlOptionsSchema,
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
    schema: BlockBackendSchema,
    positionals: [],
    takesRest: false,
    run: async ({ options }) => (await import("./backend.ts")).runBlock(options as never),
  },
  "backend net": {
    description: "Run a network interface's backend behind a vhost-user socket",
    schema: NetBackendSchema,
    positionals: [],
    takesRest: false,
    run: async ({ options }) => (await import("./backend.ts")).runNet(options as never),
  },
};
