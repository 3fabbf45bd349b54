/**
 * Reads a config schema back: what each field is called, holds and means. The command line, its
 * help and its documents are folds over this.
 */
import type * as v from "valibot";
import type { Spelling } from "./field.ts";

/** A schema for an object, with or without a pipe around it. */
export type ObjectSchema = v.GenericSchema & {
  readonly entries: Readonly<Record<string, v.GenericSchema>>;
};

/** What a field's value is. A list's `item` may itself be an object. */
export type Shape =
  | { readonly kind: "boolean" | "integer" | "size" | "text" }
  | { readonly kind: "choice"; readonly options: readonly string[] }
  | { readonly kind: "list"; readonly item: FieldShape }
  | { readonly kind: "object"; readonly schema: ObjectSchema };

export interface FieldShape {
  /** The name in JSON. */
  readonly name: string;
  readonly shape: Shape;
  readonly schema: v.GenericSchema;
  readonly spelling: Spelling;
  readonly description: string;
  readonly required: boolean;
  /** The value when it is absent; undefined when there is none. */
  readonly default: unknown;
}

/**
 * The parts of valibot's schema objects that are read here; they are plain objects, made to be
 * walked.
 */
interface Inside {
  readonly type: string;
  readonly wrapped?: v.GenericSchema;
  readonly default?: unknown;
  readonly options?: readonly string[];
  readonly item?: v.GenericSchema;
  readonly pipe?: readonly Piece[];
  readonly entries?: Readonly<Record<string, v.GenericSchema>>;
}

interface Piece {
  readonly kind: string;
  readonly type: string;
  readonly metadata?: Spelling;
  readonly description?: string;
}

/** The last piece of metadata of a type in a schema's pipe. */
function piece(schema: v.GenericSchema, type: string): Piece | undefined {
  const { pipe = [] } = schema as unknown as Inside;
  for (let i = pipe.length - 1; i >= 0; i--) if (pipe[i]!.type === type) return pipe[i];
  return undefined;
}

/** What the command line says of a field or an object. */
export const spellingOf = (schema: v.GenericSchema): Spelling =>
  piece(schema, "metadata")?.metadata ?? {};

export const descriptionOf = (schema: v.GenericSchema): string =>
  piece(schema, "description")?.description ?? "";

function shapeOf(schema: v.GenericSchema, spelling: Spelling): Shape {
  const inside = schema as unknown as Inside;
  switch (inside.type) {
    case "boolean":
      return { kind: "boolean" };
    case "number":
      return { kind: spelling.size ? "size" : "integer" };
    case "string":
      return { kind: "text" };
    case "picklist":
      return { kind: "choice", options: inside.options! };
    case "array":
      return { kind: "list", item: fieldShape("", inside.item!) };
    case "object":
      return { kind: "object", schema: schema as ObjectSchema };
    default:
      throw new TypeError(`a config schema has no ${inside.type}`);
  }
}

/** Of the many fields there are, a start looks at few: what is not asked for is not read back. */
class Field implements FieldShape {
  readonly schema: v.GenericSchema;
  readonly spelling: Spelling;
  readonly required: boolean;
  #shape: Shape | undefined;

  constructor(
    readonly name: string,
    readonly outer: v.GenericSchema,
  ) {
    const { type, wrapped } = outer as unknown as Inside;
    this.required = type !== "optional";
    this.schema = this.required ? outer : wrapped!;
    this.spelling = spellingOf(this.schema);
  }

  get shape(): Shape {
    this.#shape ??= shapeOf(this.schema, this.spelling);
    return this.#shape;
  }

  get description(): string {
    return descriptionOf(this.schema);
  }

  get default(): unknown {
    return this.required ? undefined : (this.outer as unknown as Inside).default;
  }
}

/** One field of an object. */
export const fieldShape = (name: string, schema: v.GenericSchema): FieldShape =>
  new Field(name, schema);

const fieldsBySchema = new WeakMap<ObjectSchema, readonly FieldShape[]>();

/** The fields of an object, in the order of the schema. */
export function fieldsOf(schema: ObjectSchema): readonly FieldShape[] {
  let fields = fieldsBySchema.get(schema);
  if (!fields) {
    fields = Object.entries(schema.entries).map(([name, entry]) => fieldShape(name, entry));
    fieldsBySchema.set(schema, fields);
  }
  return fields;
}

/** A key inside an option's value: where it goes in JSON. */
export interface Key {
  readonly key: string;
  readonly path: readonly string[];
  readonly field: FieldShape;
}

/** Every key of an option's value, those of nested objects with their prefix. */
export function keysOf(schema: ObjectSchema, prefix = "", path: readonly string[] = []): Key[] {
  const keys: Key[] = [];
  for (const field of fieldsOf(schema)) {
    const { shape, spelling, name } = field;
    const at = [...path, name];
    if (spelling.jsonOnly) continue;
    if (shape.kind === "object" && spelling.prefix !== undefined) {
      keys.push(...keysOf(shape.schema, prefix + spelling.prefix, at));
    } else {
      keys.push({ key: prefix + (spelling.key ?? name), path: at, field });
    }
  }
  return keys;
}

/** `VirtioMem` → `virtio-mem`, `kernel_entry` and `logFile` → `kernel-entry`, `log-file`. */
export const kebab = (name: string) =>
  name.includes("_") || name !== name.toLowerCase() ? withDashes(name) : name;

const withDashes = (name: string) =>
  name
    .replace(/([a-z0-9])([A-Z])/g, "$1-$2")
    .replaceAll("_", "-")
    .toLowerCase();
