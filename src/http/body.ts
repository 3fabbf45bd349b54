/**
 * A request's body against a config schema. `null` is absent; a key that the schema does not know is dropped, at every
 * level, and told, so that the log can say it once.
 */
import * as v from "valibot";
import { type FieldShape, fieldsOf, type ObjectSchema } from "../machine/config/shape.ts";
import { ApiError } from "./errors.ts";

type Json = Record<string, unknown>;

export interface Body<T> {
  readonly value: T;
  /** Keys that nobody knows: "disks[0].colour". */
  readonly unknown: readonly string[];
}

/** Values in a body, and in one list of it: far more than a machine has, and few enough to be looked at at once. */
const valuesMax = 10_000;
export const listMax = 256;

/** The JSON of a body; undefined when it is empty. Throws ApiError. */
export function parseJson(text: string): unknown {
  if (text.trim() === "") return undefined;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    const why = error instanceof RangeError ? "nested too deeply" : (error as Error).message;
    throw new ApiError(400, `The body is no JSON: ${why}`);
  }
  if (valuesIn(json) > valuesMax) {
    throw new ApiError(400, `The body holds more than ${valuesMax} values`);
  }
  return json;
}

/** How many values there are, counted until they are too many. */
function valuesIn(json: unknown): number {
  const left = [json];
  let count = 0;
  for (let one = left.pop(); one !== undefined && count <= valuesMax; one = left.pop()) {
    count++;
    if (typeof one !== "object" || one === null) continue;
    const inner = Array.isArray(one) ? one : Object.values(one);
    if (count + left.length + inner.length > valuesMax) return valuesMax + 1;
    left.push(...inner);
  }
  return count;
}

/** Checks a value against a schema, whose defaults are filled in. Throws ApiError naming the first wrong field. */
export function readBody<S extends ObjectSchema>(schema: S, json: unknown): Body<v.InferOutput<S>> {
  const unknown: string[] = [];
  const result = v.safeParse(schema, known(schema, json, "", unknown));
  if (result.success) return { value: result.output, unknown };
  const issue = result.issues[0];
  const path = issue.path
    ?.map(({ key }) => step(key))
    .join("")
    .replace(/^\./, "");
  throw wrong(path ?? "", issue.message);
}

/** `path`: the field's, "" for the body itself. */
const wrong = (path: string, why: string) =>
  new ApiError(400, `${path || "body"}: ${why}`, {}, path || undefined);

const step = (key: unknown) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`);

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** What the schema knows of a value. A wrong type stays as it is: the schema says what is wrong with it. */
function known(schema: ObjectSchema, value: unknown, path: string, unknown: string[]): unknown {
  if (Array.isArray(value)) {
    throw wrong(path, "Invalid type: Expected Object but received Array"); // valibot takes it for one
  }
  if (!isObject(value)) return value;
  const fields = new Map(fieldsOf(schema).map((field) => [field.name, field]));
  const object: Json = {};
  for (const [key, inner] of Object.entries(value)) {
    if (inner === null) continue;
    const at = path === "" ? key : `${path}.${key}`;
    const field = fields.get(key);
    if (field === undefined) unknown.push(at);
    else object[key] = knownField(field, inner, at, unknown);
  }
  return object;
}

function knownField(field: FieldShape, value: unknown, path: string, unknown: string[]): unknown {
  const { shape } = field;
  if (shape.kind === "object") return known(shape.schema, value, path, unknown);
  if (shape.kind !== "list" || !Array.isArray(value)) return value;
  if (value.length > listMax) {
    throw wrong(path, `Expected at most ${listMax} but received ${value.length}`);
  }
  return value.map((one, i) => knownField(shape.item, one, `${path}[${i}]`, unknown));
}
