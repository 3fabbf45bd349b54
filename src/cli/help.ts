/**
 * Help: what citty's `renderUsage` makes of the options, and under it the keys of their values,
 * from the schema.
 */
import { type ArgDef, defineCommand, renderUsage } from "citty";
import { description, version } from "../../package.json";
import { VmmOptionsSchema } from "../machine/config/vmm.ts";
import type { Command } from "./command.ts";
import { actions, type Option, optionsOf } from "./option-table.ts";
import { keyRows, optionHint, optionPreset, rootOptions, unbuiltNote } from "./reference.ts";

/** The whole text, without colours unless stdout is a terminal; no newline at the end. */
export async function helpText(
  commands: Readonly<Record<string, Command>>,
  name: string | undefined,
): Promise<string> {
  const text = name === undefined ? await root(commands) : await one(name, commands[name]!);
  const shown = process.stdout.isTTY ? text : Bun.stripANSI(text);
  return shown.replaceAll(/ +$/gm, "").trimEnd();
}

/** An option as citty declares it. */
function declare(option: Option): [string, ArgDef] {
  const { name, short, kind } = option;
  const note = unbuiltNote(option);
  const common = {
    description: option.description + (note && ` (${note})`),
    ...(short && { alias: short }),
  };
  if (kind === "action" || kind === "count" || kind === "switch") {
    return [name, { type: "boolean", ...common }];
  }
  const preset = optionPreset(option);
  return [
    name,
    {
      type: "string",
      valueHint: optionHint(option),
      ...common,
      ...(preset !== "" && { default: preset }),
    },
  ];
}

async function root(commands: Readonly<Record<string, Command>>): Promise<string> {
  const options = [...rootOptions(), ...actions];
  const usage = await renderUsage(
    defineCommand({
      meta: { name: "chv", version, description },
      args: Object.fromEntries(options.map(declare)),
      ...(Object.keys(commands).length > 0 && {
        subCommands: Object.fromEntries(
          Object.entries(commands).map(([name, command]) => [
            name,
            defineCommand({ meta: { name, description: command.description } }),
          ]),
        ),
      }),
    }),
  );
  return `${usage}\n${keySection(options)}`;
}

async function one(name: string, command: Command): Promise<string> {
  const options = optionsOf(command.schema);
  const hidden = new Set([...options.map((own) => own.name), ...(command.refuses ?? [])]);
  const shared = optionsOf(VmmOptionsSchema).filter((one) => !hidden.has(one.name));
  const all = [...options, ...shared, ...actions];
  const positionals = command.positionals.map(([word, text]): [string, ArgDef] => [
    word,
    { type: "positional", description: text },
  ]);
  const usage = await renderUsage(
    defineCommand({
      meta: { name, description: command.description },
      args: Object.fromEntries([...positionals, ...all.map(declare)]),
    }),
    defineCommand({ meta: { name: "chv", version } }),
  );
  const shown = command.takesRest ? usage.replace(/^(.*USAGE.*)$/m, "$1 [-- COMMAND…]") : usage;
  const more = command.more ? ["COMMANDS", "", ...indented(await command.more()), "", ""] : [];
  return `${shown}\n${more.join("\n")}${keySection(all)}`;
}

const indented = (lines: readonly string[]) => lines.map((line) => `  ${line}`);

/** The keys of every option that has some and is built, one a line. */
function keySection(options: readonly Option[]): string {
  const blocks = options.flatMap((option) => {
    const rows = keyRows(option);
    if (rows.length === 0 || unbuiltNote(option) !== "") return [];
    const width = Math.max(...rows.map(({ key }) => key.length));
    const lines = rows.map(({ key, meaning, preset }) => {
      const note = preset === "" || preset === "required" ? preset : `default: ${preset}`;
      return `  ${key.padEnd(width)}  ${meaning}${note && ` (${note})`}`;
    });
    return [`--${option.name}`, ...lines, ""];
  });
  return ["KEYS", "", ...blocks].join("\n");
}
