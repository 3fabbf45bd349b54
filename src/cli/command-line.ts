/**
 * The command line: argv in, what to do out. Nothing is opened and nothing is printed here; what is
 * wrong is thrown as a UsageError or a ConfigError, each with its exit code and a message of one
 * line.
 */
import { version } from "../../package.json";
import { ExitCode, UsageError } from "../exit-codes.ts";
import type * as BackendSchemas from "../machine/config/backends.ts";
import { checkBoot } from "../machine/config/check.ts";
import type { FieldShape, ObjectSchema } from "../machine/config/shape.ts";
import { type BootConfig, complete, VmConfigSchema } from "../machine/config/vm.ts";
import { type VmmOptions, VmmOptionsSchema } from "../machine/config/vmm.ts";
import { type Arguments, readArguments } from "./arguments.ts";
import type { Command } from "./command.ts";
import { commands as allCommands } from "./commands.ts";
import { quoted } from "./nearest.ts";
import { actions, type Option, objectOf, optionsOf } from "./option-table.ts";
import { put, readOptions, validate } from "./options.ts";
import { programName } from "./program-name.ts";
import { readValue, ValueError } from "./values.ts";

export type CommandLine =
  | { readonly kind: "boot"; readonly config: BootConfig; readonly options: VmmOptions }
  /** There is no machine yet: the API makes one. */
  | { readonly kind: "serve"; readonly options: VmmOptions }
  /** Text for stdout, without a newline at its end; then the process exits. */
  | { readonly kind: "print"; readonly text: () => Promise<string>; readonly exitCode: number }
  /** A command, which runs in place of plain `chv`; `run` gives the exit code. */
  | { readonly kind: "command"; readonly options: VmmOptions; readonly run: () => Promise<number> };

type Commands = Readonly<Record<string, Command>>;
type Json = Record<string, unknown>;

/** `argv` is without the program's own name. */
export function parseCommandLine(
  argv: readonly string[],
  commands: Commands = allCommands,
): CommandLine {
  if (argv.length === 0) return help(commands, undefined, ExitCode.usage);
  const vmmOptions = optionsOf(VmmOptionsSchema);
  const vmOptions = optionsOf(VmConfigSchema);
  const backendSchema = mayBeBackend(argv) ? backendOptionsSchema() : undefined;
  const backendOptions = backendSchema ? optionsOf(backendSchema) : [];
  const args = readArguments(argv, {
    options: [...vmOptions, ...vmmOptions, ...backendOptions, ...actions],
    commands: Object.keys(commands),
  });
  if (args.action === "help") return help(commands, undefined, ExitCode.ok);
  if (args.action === "version") return print(`${programName(process.argv0)} ${version}`);
  if (args.command !== undefined) {
    const { name, next } = args.command;
    return parseCommand(argv.slice(next), args, name, commands);
  }
  if (args.rest !== undefined) {
    throw new UsageError("--: plain chv takes nothing after it; remove it and what follows");
  }
  const options = collect(VmmOptionsSchema, vmmOptions, args) as VmmOptions;
  const given = new Set<string>();
  for (const { name } of args.given.keys()) given.add(name);
  const backend = backendOptions.find(({ name }) => given.has(name));
  if (backend) {
    const other = vmOptions.find(({ name }) => given.has(name));
    if (other) {
      const why = `runs a backend and no machine; leave out --${other.name}`;
      throw new UsageError(`--${backend.name} ${why}`, `--${backend.name}`);
    }
    const config = collect(backendSchema!, backendOptions, args);
    const run = async () => (await import("./backend.ts")).runBackend(config as never);
    return { kind: "command", options, run };
  }
  if (options.apiTokenFile !== undefined && options.apiListen === undefined) {
    const why = "is for clients of --api-listen; add that, or leave it out";
    throw new UsageError(`--api-token-file ${why}`, "--api-token-file");
  }
  const api = options.apiSocket ?? options.apiListen;
  if (api !== undefined && !vmOptions.some(({ name }) => given.has(name))) {
    return { kind: "serve", options };
  }
  const parsed = collect(VmConfigSchema, vmOptions, args) as Parameters<typeof complete>[0];
  const auto_console = !given.has("serial") && !given.has("console");
  const config = complete(auto_console ? { ...parsed, auto_console } : parsed);
  return { kind: "boot", config: checkBoot(config, options), options };
}

const backendParts = ["block", "back", "net-"];

/** Early 2020's spelling of a backend's options; a typing error in one is told apart from its other half. */
const mayBeBackend = (argv: readonly string[]): boolean =>
  argv.some((word) => word.startsWith("--") && backendParts.some((part) => word.includes(part)));

const backendOptionsSchema = () =>
  (require("../machine/config/backends.ts") as typeof BackendSchemas).BackendOptionsSchema;

/**
 * A command's own arguments. Before its name stand only the options that are the process's, not the
 * machine's.
 */
function parseCommand(
  argv: readonly string[],
  before: Arguments,
  name: string,
  commands: Commands,
): CommandLine {
  const command = commands[name]!;
  const vmmOptions = optionsOf(VmmOptionsSchema);
  const own = optionsOf(command.schema);
  const names = new Set(vmmOptions.map((option) => option.name));
  for (const { name: option } of before.given.keys()) {
    if (!names.has(option)) {
      const why = `is no option of the command ${name}; remove it, or give it after ${name}`;
      throw new UsageError(`--${option} ${why}`, `--${option}`);
    }
  }
  const shared = vmmOptions.filter(({ name: one }) => !own.some((option) => option.name === one));
  const args = readArguments(argv, {
    options: [...own, ...shared, ...actions],
    positionals: command.positionals.length,
  });
  if (args.action === "help") return help(commands, name, ExitCode.ok);
  if (args.action === "version") return print(`${programName(process.argv0)} ${version}`);
  if (args.rest !== undefined && !command.takesRest) {
    throw new UsageError(`--: ${name} takes nothing after it; remove it and what follows`);
  }
  const merged = { ...args, given: mergeGiven(before, args) };
  const vmm = collect(VmmOptionsSchema, shared, merged) as VmmOptions;
  const options = collect(command.schema, own, args);
  const { positionals, rest = [] } = args;
  return {
    kind: "command",
    options: vmm,
    run: () => command.run({ options, positionals, rest, vmm }),
  };
}

/**
 * The options before a command's name and after it, together; the two passes have tables of their
 * own.
 */
function mergeGiven(before: Arguments, after: Arguments): Map<Option, readonly string[]> {
  const merged = new Map(after.given);
  for (const [option, values] of before.given) {
    const same = [...after.given.keys()].find(({ name }) => name === option.name);
    if (same !== undefined && option.kind !== "count") {
      throw new UsageError(`--${option.name} is given twice; keep one`, `--${option.name}`);
    }
    merged.delete(same!);
    merged.set(same ?? option, [...values, ...(after.given.get(same!) ?? [])]);
  }
  return merged;
}

/** Reads the values that were given for `options` and lets the schema add its defaults. */
function collect(schema: ObjectSchema, options: readonly Option[], args: Arguments): unknown {
  const object: Json = {};
  for (const [given, values] of args.given) {
    const option = options.find(({ name }) => name === given.name);
    if (option === undefined) continue;
    put(object, option.path, readOption(option, values));
  }
  for (const { name, path, field } of options) {
    if (!field?.required || path.length > 1 || object[path[0]!] !== undefined) continue;
    throw new UsageError(`--${name} is missing; give it`, `--${name}`);
  }
  return validate(schema, object, "command line");
}

function readOption(option: Option, values: readonly string[]): unknown {
  const name = `--${option.name}`;
  if (option.kind === "count") return values.length;
  const field = option.field!;
  const schema = objectOf(field);
  const { shape } = field;
  if (shape.kind === "list" && shape.item.shape.kind === "text") {
    return values.map((text) => readPlain(text, shape.item, name));
  }
  const read = (text: string): unknown => {
    if (schema === undefined) return readPlain(text, field, name);
    const object = readOptions(schema, text, name);
    validate(schema, object, name);
    return object;
  };
  return option.kind === "list" ? values.map(read) : read(values[0]!);
}

/**
 * A value without keys. Free text is taken byte for byte; it may be empty where the schema says so.
 */
function readPlain(text: string, field: FieldShape, name: string): unknown {
  try {
    const value = field.shape.kind === "text" ? text : readValue(text, field);
    return validate(field.schema, value, name);
  } catch (error) {
    if (!(error instanceof ValueError)) throw error;
    throw new UsageError(`${name}: ${quoted(text)} ${error.message}`, name);
  }
}

function print(text: string): CommandLine {
  return { kind: "print", text: async () => text, exitCode: ExitCode.ok };
}

function help(commands: Commands, name: string | undefined, exitCode: number): CommandLine {
  const text = async () => (await import("./help.ts")).helpText(commands, name);
  return { kind: "print", text, exitCode };
}
