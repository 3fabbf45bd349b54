/**
 * The options of a command, derived from its schema: which there are, how they are given, where
 * their values go.
 */
import { type FieldShape, fieldsOf, kebab, type ObjectSchema } from "../machine/config/shape.ts";

/**
 * How an option is given: `action` ends the parse (help, version), `count` has no value and counts,
 * `switch` is a boolean whose value may be left out, `value` takes one value, `list` several.
 */
export type OptionKind = "action" | "count" | "switch" | "value" | "list";

export interface Option {
  /** Long name, without dashes. */
  readonly name: string;
  readonly short: string | undefined;
  readonly kind: OptionKind;
  readonly description: string;
  /** The field and where it lies in the configuration; undefined for actions. */
  readonly field: FieldShape | undefined;
  readonly path: readonly string[];
  /** The value is taken as it is: no keys, no quoting. */
  readonly plain: boolean;
}

function kindOf({ shape, spelling }: FieldShape): OptionKind {
  if (spelling.counts) return "count";
  if (shape.kind === "boolean") return "switch";
  return shape.kind === "list" ? "list" : "value";
}

/** The schema of the object that an option's value stands for, if it stands for one. */
export function objectOf({ shape }: FieldShape): ObjectSchema | undefined {
  if (shape.kind === "object") return shape.schema;
  return shape.kind === "list" ? objectOf(shape.item) : undefined;
}

class FieldOption implements Option {
  readonly name: string;

  constructor(
    readonly field: FieldShape,
    readonly path: readonly string[],
  ) {
    this.name = field.spelling.option ?? kebab(field.name);
  }

  get short(): string | undefined {
    return this.field.spelling.short;
  }

  get kind(): OptionKind {
    return kindOf(this.field);
  }

  get description(): string {
    return this.field.description;
  }

  get plain(): boolean {
    return objectOf(this.field) === undefined;
  }
}

/** One option for each field of the schema, and for each field of its inline objects. */
export function optionsOf(schema: ObjectSchema, path: readonly string[] = []): Option[] {
  const options: Option[] = [];
  for (const field of fieldsOf(schema)) {
    const { spelling, name } = field;
    const at = [...path, name];
    if (spelling.jsonOnly) continue;
    if (spelling.inline && field.shape.kind === "object") {
      options.push(...optionsOf(field.shape.schema, at));
    } else {
      options.push(new FieldOption(field, at));
    }
  }
  return options;
}

const action = (name: string, short: string, description: string): Option => ({
  name,
  short,
  kind: "action",
  description,
  field: undefined,
  path: [],
  plain: true,
});

/** What every command has. */
export const actions: readonly Option[] = [
  action("version", "V", "Print the version"),
  action("help", "h", "Print this help"),
];
