/**
 * The words that config schemas are written in. A field is a plain valibot schema without
 * transforms, so that one schema serves the command line, the API body, the defaults and the
 * documents. What the command line needs beyond that (other key names, size suffixes, values
 * without a key) is metadata of the schema: its `Spelling`.
 */
import * as v from "valibot";

/**
 * How the command line spells a field, where that does not follow from its name and type in JSON.
 */
export type Spelling = {
  /** The key inside an option's value; the JSON name otherwise. */
  key?: string;
  /** Further keys that mean the same: spellings of early 2020. */
  aliases?: readonly string[];
  /** The name of the option, without dashes; the JSON name in kebab-case otherwise. */
  option?: string;
  /** One letter that stands for the option. */
  short?: string;
  /** The fields of this object are options of their own. */
  inline?: boolean;
  /** The option has no value: each time it is given counts. */
  counts?: boolean;
  /** The number may have a suffix K, M, G or T. */
  size?: boolean;
  /** The object is one value: its fields in order, joined by this. */
  separator?: string;
  /** The object's keys stand among its parent's, with this in front. */
  prefix?: string;
  /** The field that a first value without a key fills (its JSON name). */
  bare?: string;
  /** Fields that name the mode by being there: field → [field to fill, its value]. */
  implies?: Readonly<Record<string, readonly [string, string]>>;
  /** The command line does not have it: what clients of the API send along. */
  jsonOnly?: boolean;
  /** What stands for the value in help. */
  hint?: string;
};

/** Adds a description and a spelling to a schema. */
export const field = <S extends v.GenericSchema>(
  schema: S,
  description: string,
  spelling: Spelling = {},
) => v.pipe(schema, v.description(description), v.metadata(spelling));

// Building the schemas is part of every start: one pipe for each field, not a pipe in a pipe, and
// parts without state of their own are made once.
const boolean = v.boolean();
const number = v.number();
const string = v.string();
const integer = v.safeInteger();
const notNegative = v.minValue<number, number>(0);
const safe = v.maxValue<number, number>(Number.MAX_SAFE_INTEGER);

type Limits = { min?: number; max?: number };

/** A count: an integer of at least `min` (0), at most `max` (2^53 - 1). */
export const count = (description: string, { min, max, ...spelling }: Spelling & Limits = {}) =>
  v.pipe(
    number,
    integer,
    min === undefined ? notNegative : v.minValue<number, number>(min),
    max === undefined ? safe : v.maxValue<number, number>(max),
    v.description(description),
    v.metadata(spelling),
  );

/** A number of bytes; on the command line with a suffix K, M, G or T (powers of 1024). */
export const size = (description: string, spelling: Spelling & Limits = {}) =>
  count(description, { hint: "SIZE", ...spelling, size: true });

/** A boolean: on, off, true, false on the command line. */
export const onOff = (description: string, spelling: Spelling = {}) =>
  v.pipe(boolean, v.description(description), v.metadata(spelling));

const withoutNul = v.check(
  (value: string) => !value.includes("\0"),
  "holds a NUL character; remove it",
);
const notEmpty = v.check((value: string) => value !== "", "is empty; write a value");

/** Free text without a NUL, which no system call could take. May be empty. */
export const text = (description: string, spelling: Spelling = {}) =>
  v.pipe(string, withoutNul, v.description(description), v.metadata(spelling));

/** A name that is not empty: a path, an id, a tag. */
export const name = (description: string, spelling: Spelling = {}) =>
  v.pipe(string, withoutNul, notEmpty, v.description(description), v.metadata(spelling));

/** The path of a file, socket or folder on the host. */
export const path = (description: string, spelling: Spelling = {}) =>
  name(description, { hint: "PATH", ...spelling });

/** Text of one form; `form` says it in an error: "is not an IPv4 address, such as 10.0.0.1". */
export const pattern = (
  regex: RegExp,
  form: string,
  description: string,
  spelling: Spelling = {},
) =>
  v.pipe(
    string,
    v.regex(regex, `is not ${form}`),
    v.description(description),
    v.metadata(spelling),
  );

/** One of several words; the command line takes them in lower case, with or without dashes. */
export const choice = <const O extends readonly string[]>(
  options: O,
  description: string,
  spelling: Spelling = {},
) => v.pipe(v.picklist(options), v.description(description), v.metadata(spelling));

/**
 * An object whose fields are made when they are first looked at: a start without the option does not pay for them.
 */
export const later = <const E extends v.ObjectEntries>(
  make: () => E,
  description: string,
  spelling: Spelling = {},
) => {
  let made: E | undefined;
  const object = v.object({} as E);
  const schema = v.pipe(object, v.description(description), v.metadata(spelling));
  const entries = { get: () => (made ??= make()), enumerable: true };
  for (const one of [object, schema]) Object.defineProperty(one, "entries", entries);
  return schema;
};

/** An object of which exactly one of two fields is given. */
export const either = <S extends v.GenericSchema<Record<string, unknown>>>(
  schema: S,
  one: string,
  other: string,
) =>
  v.pipe(
    schema,
    v.check(
      (value) => (value[one] === undefined) !== (value[other] === undefined),
      `takes either ${one}= or ${other}=; give one of them`,
    ),
  );
