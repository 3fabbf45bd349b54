/**
 * Looks at what is given to cloud-init before the boot: what it would only say in a log of the guest's is an error
 * here, with line and column.
 */
import { gunzipSync } from "node:zlib";
import { LineCounter, parseDocument } from "yaml";
import { ConfigError } from "../../exit-codes.ts";
import { knownKeys } from "./known-keys.ts";

const option = "--cloud-init";

/** What user data may begin with beside #cloud-config (cloud-init, "User data formats"); it is taken as it is. */
const otherForms = [
  ...["#!", "#include", "#cloud-boothook", "#cloud-config-archive", "#part-handler"],
  ...["#cloud-config-jsonp", "## template:", "#upstart-job"],
];
const isMime = (text: string) => /^(?:content-type|mime-version):/i.test(text);
const isGzip = (bytes: Uint8Array) => bytes[0] === 0x1f && bytes[1] === 0x8b;
const gzipMost = 64 * 2 ** 20;

const fail = (where: string, why: string) => new ConfigError(`${option} ${where}: ${why}`, option);

/** UTF-8 text of a file; `where` is "user-data=FILE". Throws ConfigError. */
function textOf(where: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw fail(where, "not UTF-8 text; write it as UTF-8");
  }
}

/** The mapping that YAML text holds; an empty one for no text at all. Throws ConfigError with line and column. */
export function readMapping(where: string, bytes: Uint8Array): Record<string, unknown> {
  const lineCounter = new LineCounter();
  const text = textOf(where, bytes);
  // PyYAML, which cloud-init reads with, knows version 1.1
  const document = parseDocument(text, {
    lineCounter,
    version: "1.1",
    prettyErrors: false,
    logLevel: "error",
  });
  const [error] = document.errors;
  if (error) {
    const { line, col } = lineCounter.linePos(error.pos[0]);
    throw fail(where, `line ${line}, column ${col}: ${error.message}; mend the YAML`);
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch (problem) {
    throw fail(where, `${(problem as Error).message}; mend the YAML`);
  }
  if (value === null || value === undefined) return {};
  if (typeof value !== "object" || Array.isArray(value)) {
    throw fail(where, "line 1, column 1: no mapping; write KEY: VALUE lines");
  }
  return value as Record<string, unknown>;
}

/** Throws ConfigError. What is odd, but no error, is given to `warn`. */
export function checkUserData(
  where: string,
  given: Uint8Array,
  warn: (line: string) => void,
): void {
  const bytes = isGzip(given) ? unzipped(where, given) : given;
  const text = textOf(where, bytes);
  if (text.startsWith("\ufeff")) {
    throw fail(
      where,
      "line 1, column 1: a byte order mark, behind which nothing is found; remove it",
    );
  }
  const [first = ""] = text.split("\n", 1);
  if (first.trimEnd() !== "#cloud-config") {
    if (isMime(text) || otherForms.some((form) => first.startsWith(form))) return;
    const forms = "#cloud-config, #! or another of cloud-init's headers";
    throw fail(where, `line 1, column 1: does not begin with ${forms}; add #cloud-config`);
  }
  for (const key of Object.keys(readMapping(where, bytes))) {
    if (!knownKeys.has(key))
      warn(`${option} ${where}: cloud-init has no key ${JSON.stringify(key)}`);
  }
}

function unzipped(where: string, bytes: Uint8Array): Uint8Array {
  try {
    return gunzipSync(bytes, { maxOutputLength: gzipMost });
  } catch (error) {
    throw fail(where, `gzip that cannot be unpacked (${(error as Error).message}); pack it anew`);
  }
}
