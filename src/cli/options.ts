/**
 * The option parser: `size=512M,shared=on` and a schema make an object. Keys, types, defaults and
 * limits are the schema's; the quoting rule is split.ts's. Text that cannot be read is a
 * UsageError, a value that reads well but lies outside its limits a ConfigError.
 */
import * as v from "valibot";
import { ConfigError, UsageError } from "../exit-codes.ts";
import { type Key, keysOf, type ObjectSchema, spellingOf } from "../machine/config/shape.ts";
import { nearest, quoted } from "./nearest.ts";
import { type Segment, SplitError, splitOptions } from "./split.ts";
import { readValue, shown, ValueError } from "./values.ts";

type Json = Record<string, unknown>;

/**
 * The object that an option's value stands for: complete, checked, with its defaults. `option` is
 * the option's name for messages, with its dashes.
 */
export function parseOptions<S extends ObjectSchema>(
  schema: S,
  text: string,
  option: string,
): v.InferOutput<S> {
  return validate(schema, readOptions(schema, text, option), option);
}

/** The keys that were given and no others: what the schema's defaults are laid under. */
export function readOptions(schema: ObjectSchema, text: string, option: string): Json {
  const keys = new Map<string, Key>();
  for (const key of keysOf(schema)) {
    keys.set(key.key, key);
    for (const alias of key.field.spelling.aliases ?? []) keys.set(alias, key);
  }
  const object: Json = {};
  for (const [index, segment] of split(text, option).entries()) {
    const { key, value } = locate(segment, index, schema, keys, option);
    if (at(object, key.path) !== undefined) {
      throw new UsageError(`${option}: ${key.key}= is given twice; keep one`, option);
    }
    put(object, key.path, readAt(value, segment.literal, key, option));
  }
  imply(schema, object);
  return object;
}

function split(text: string, option: string): Segment[] {
  if (text === "") throw new UsageError(`${option}: the value is empty; write one`, option);
  try {
    return splitOptions(text);
  } catch (error) {
    if (!(error instanceof SplitError)) throw error;
    throw new UsageError(`${option} ${quoted(text)}: ${error.message}`, option);
  }
}

/** Which key a part fills. A first part without a known key may be the bare value. */
function locate(
  { key: name, value }: Segment,
  index: number,
  schema: ObjectSchema,
  keys: ReadonlyMap<string, Key>,
  option: string,
): { key: Key; value: string } {
  const known = name === undefined ? undefined : keys.get(name);
  if (known !== undefined) return { key: known, value };
  const { bare } = spellingOf(schema);
  const bareKey = [...keys.values()].find(({ path }) => path.length === 1 && path[0] === bare);
  // A path may hold "="; no key holds "/".
  const isBare = index === 0 && (name === undefined || name.includes("/"));
  if (bareKey !== undefined && isBare) {
    return { key: bareKey, value: name === undefined ? value : `${name}=${value}` };
  }
  const meant = nearest(name ?? value, keys.keys());
  if (name === undefined) {
    const given = value === "" ? "an empty part" : quoted(value);
    throw new UsageError(
      `${option}: ${given} has no key; write KEY=VALUE, as in ${meant}=`,
      option,
    );
  }
  throw new UsageError(`${option}: unknown key ${quoted(name)}; did you mean ${meant}?`, option);
}

function readAt(text: string, literal: boolean, { key, field }: Key, option: string): unknown {
  try {
    // What stood in quotes is one item, whatever it looks like.
    if (literal && field.shape.kind === "list") return [readValue(text, field.shape.item)];
    return readValue(text, field);
  } catch (error) {
    if (!(error instanceof ValueError)) throw error;
    throw new UsageError(`${option}: ${shown(key, text)} ${error.message}`, option);
  }
}

function at(object: Json, path: readonly string[]): unknown {
  let inner: unknown = object;
  for (const name of path) inner = (inner as Json | undefined)?.[name];
  return inner;
}

/** Sets a value inside an object, and makes the objects on the way there. */
export function put(object: Json, path: readonly string[], value: unknown): void {
  const last = path.length - 1;
  let inner = object;
  for (let i = 0; i < last; i++) inner = (inner[path[i]!] ??= {}) as Json;
  inner[path[last]!] = value;
}

/** `file=PATH` alone says that the mode is File. */
function imply(schema: ObjectSchema, object: Json): void {
  for (const [given, [name, value]] of Object.entries(spellingOf(schema).implies ?? {})) {
    if (object[given] !== undefined) object[name] ??= value;
  }
}

/** Issues that speak of a limit, not of the form. */
const limits = new Set(["min_value", "max_value"]);

/**
 * The schema's word on a value that was read: defaults filled in, or an error with the first thing
 * that is wrong.
 */
export function validate<S extends v.GenericSchema>(
  schema: S,
  value: unknown,
  option: string,
): v.InferOutput<S> {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const issue = result.issues[0];
  const key = keyAt(schema, issue.path?.map(({ key }) => String(key)) ?? []);
  if (key !== undefined && issue.received === "undefined") {
    throw new UsageError(`${option}: ${key}= is missing; add it`, option);
  }
  const whole = key === undefined && typeof issue.input === "object";
  const what = whole ? option : `${option}: ${shown(key, String(issue.input))}`;
  if (limits.has(issue.type)) {
    const word = issue.type === "min_value" ? "least" : "most";
    const { requirement } = issue as { requirement?: unknown };
    const why = `is out of range; the ${word} is ${requirement}`;
    throw new ConfigError(`${what} ${why}`, option);
  }
  throw new UsageError(`${what} ${issue.message}`, option);
}

/** The command line's key for a path in JSON; undefined for the value as a whole. */
function keyAt(schema: v.GenericSchema, path: readonly string[]): string | undefined {
  if (path.length === 0) return undefined;
  if (!("entries" in schema)) return path.join(".");
  const matches = ({ path: own }: Key) => own.every((name, i) => name === path[i]);
  return keysOf(schema as ObjectSchema).find(matches)?.key ?? path.join(".");
}
