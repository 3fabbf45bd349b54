/** JSON Schema as far as the API's document uses it: what of a value a schema does not allow. */

interface Schema {
  readonly [keyword: string]: unknown;
}

const typeOf = (value: unknown): string =>
  value === null ? "null" : Array.isArray(value) ? "array" : typeof value;

/** What is wrong, with where; empty when all is well. Throws on a keyword that it does not know. */
export function problems(document: Schema, schema: Schema, value: unknown, at = "$"): string[] {
  const found: string[] = [];
  const all = (inner: Schema, part: unknown, path: string) =>
    found.push(...problems(document, inner, part, path));
  for (const [keyword, wanted] of Object.entries(schema)) {
    switch (keyword) {
      case "description":
      case "default":
        break;
      case "$ref": {
        const steps = (wanted as string).slice(2).split("/");
        all(
          steps.reduce((inner, step) => inner[step] as Schema, document),
          value,
          at,
        );
        break;
      }
      case "type": {
        const is = typeOf(value);
        const fits = wanted === "integer" ? Number.isInteger(value) : wanted === is;
        if (!fits) found.push(`${at}: ${is}, not ${wanted}`);
        break;
      }
      case "propertyNames":
        for (const key of Object.keys(value as object)) all(wanted as Schema, key, `${at} key`);
        break;
      case "enum":
        if (!(wanted as unknown[]).includes(value)) found.push(`${at}: not one of ${wanted}`);
        break;
      case "anyOf": {
        const ways = (wanted as Schema[]).map((one) => problems(document, one, value, at));
        if (ways.every((way) => way.length > 0)) found.push(...ways[0]!);
        break;
      }
      case "items":
        if (!Array.isArray(value)) break;
        for (const [i, one] of value.entries()) all(wanted as Schema, one, `${at}[${i}]`);
        break;
      case "required":
        for (const key of wanted as string[]) {
          if (!Object.hasOwn(value as object, key)) found.push(`${at}: no ${key}`);
        }
        break;
      case "properties":
        for (const [key, inner] of Object.entries(wanted as Record<string, Schema>)) {
          const part = (value as Record<string, unknown>)[key];
          if (part !== undefined) all(inner, part, `${at}.${key}`);
        }
        break;
      case "additionalProperties":
        if (typeof wanted !== "object" || wanted === null) break;
        for (const [key, part] of Object.entries(value as object)) {
          if (!Object.hasOwn((schema.properties ?? {}) as object, key)) {
            all(wanted as Schema, part, `${at}.${key}`);
          }
        }
        break;
      default:
        throw new Error(`${at}: the keyword ${keyword} is not known here`);
    }
  }
  return found;
}
