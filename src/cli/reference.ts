/**
 * The options and keys in words, for help and for docs/cli.md (a test compares that page with
 * `referenceTables`).
 */
import { BackendOptionsSchema } from "../machine/config/backends.ts";
import { type FieldShape, fieldsOf, kebab, keysOf, spellingOf } from "../machine/config/shape.ts";
import { unbuilt } from "../machine/config/unbuilt.ts";
import { VmConfigSchema } from "../machine/config/vm.ts";
import { VmmOptionsSchema } from "../machine/config/vmm.ts";
import { actions, type Option, objectOf, optionsOf } from "./option-table.ts";

/** The options of plain `chv`. */
export const rootOptions = (): Option[] =>
  [VmConfigSchema, VmmOptionsSchema, BackendOptionsSchema].flatMap((schema) => optionsOf(schema));

/** What stands for a field's value: `on|off`, `SIZE`, `raw|qcow2`. */
export function valueHint({ shape, spelling }: FieldShape): string {
  if (spelling.hint !== undefined) return spelling.hint;
  switch (shape.kind) {
    case "boolean":
      return "on|off";
    case "integer":
      return "N";
    case "size":
      return "SIZE";
    case "text":
      return "TEXT";
    case "choice":
      return shape.options.map(kebab).join("|");
    case "list":
      return `[${valueHint(shape.item)},…]`;
    case "object":
      return "KEY=VALUE,…";
  }
}

/** What stands for an option's value in the list of options. */
export function optionHint(option: Option): string {
  const field = option.field!;
  const object = objectOf(field);
  if (object === undefined) return valueHint(field);
  const { bare } = spellingOf(object);
  const first = keysOf(object).find(({ path }) => path[0] === bare);
  return first === undefined ? "KEY=VALUE,…" : `[${first.key}=]${valueHint(first.field)},…`;
}

/** A default as one would type it; nothing for one that asks for nothing. */
function preset({ shape, default: value }: Pick<FieldShape, "shape" | "default">): string {
  if (value === undefined) return "";
  if (shape.kind === "boolean") return value ? "on" : "off";
  if (shape.kind === "choice") return kebab(String(value));
  if (shape.kind !== "size" || value === 0) return String(value);
  const bytes = Number(value);
  for (const [suffix, unit] of [
    ["G", 2 ** 30],
    ["M", 2 ** 20],
    ["K", 2 ** 10],
  ] as const) {
    if (bytes % unit === 0) return `${bytes / unit}${suffix}`;
  }
  return String(bytes);
}

const also = ({ spelling: { aliases = [] } }: FieldShape) =>
  aliases.map((alias) => `; also ${alias}=`).join("");

/** A key of an option's value: `size=SIZE`, what it means, and its default or "required". */
export function keyRows(option: Option): { key: string; meaning: string; preset: string }[] {
  const object = option.field && objectOf(option.field);
  if (object === undefined) return [];
  return keysOf(object).map(({ key, path, field }) => ({
    key: `${key}=${valueHint(field)}`,
    meaning: field.description + also(field),
    // A field of a nested object is required with its siblings only.
    preset: field.required && path.length === 1 ? "required" : preset(field),
  }));
}

/** The default of an option as a whole: `tty` of `--serial`. */
export function optionPreset({ field }: Option): string {
  if (field?.shape.kind !== "object") return field?.shape.kind === "choice" ? preset(field) : "";
  const { bare } = spellingOf(field.shape.schema);
  const value = (field.default as Record<string, unknown> | undefined)?.[bare ?? ""];
  const inner = fieldsOf(field.shape.schema).find(({ name }) => name === bare);
  return value === undefined ? "" : preset({ shape: inner!.shape, default: value });
}

/** Whether a boot refuses the option, in words; empty when it does not. */
export function unbuiltNote({ name }: Option): string {
  const entry = unbuilt.find(({ option }) => option === `--${name}`);
  if (entry === undefined) return "";
  return `not built in this version${entry.except ? ` but for ${entry.except}` : ""}`;
}

const cell = (text: string) => text.replaceAll("|", "\\|");

/** The tables of docs/cli.md: every option, then the keys of each. */
export function referenceTables(): string {
  const options = [...rootOptions(), ...actions];
  const lines = ["| option | meaning | default |", "|---|---|---|"];
  for (const option of options) {
    const takesValue = option.kind === "value" || option.kind === "list";
    const hint = takesValue ? ` ${optionHint(option)}` : "";
    const short = option.short === undefined ? "" : `\`-${option.short}\`, `;
    const again = option.kind === "list" ? "; several values, or repeated" : "";
    const note = unbuiltNote(option);
    const meaning = cell(option.description) + again + (note && `; ${note}`);
    lines.push(
      `| ${short}\`--${option.name}${cell(hint)}\` | ${meaning} | ${optionPreset(option)} |`,
    );
  }
  for (const option of options) {
    const rows = keyRows(option);
    if (rows.length === 0) continue;
    lines.push("", `### \`--${option.name}\``, "", "| key | meaning | default |", "|---|---|---|");
    for (const { key, meaning, preset: value } of rows) {
      lines.push(`| \`${cell(key)}\` | ${cell(meaning)} | ${value} |`);
    }
  }
  return lines.join("\n");
}
