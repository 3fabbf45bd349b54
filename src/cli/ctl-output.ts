/** What `chv ctl` prints: JSON in one line for programs, an indented list for a person at a terminal. */

export function showReply(reply: unknown): void {
  if (reply === undefined) return;
  const text = process.stdout.isTTY ? rows(reply).join("\n") : JSON.stringify(reply);
  process.stdout.write(`${text}\n`);
}

/** `config.cpus.boot_vcpus  1`, a line for each value, the names in one column. */
function rows(reply: unknown): string[] {
  const all = flatten(reply, "");
  const width = Math.max(...all.map(([name]) => name.length));
  return all.map(([name, value]) => `${name.padEnd(width)}  ${value}`);
}

function flatten(value: unknown, path: string): [string, string][] {
  // text as JSON: what a guest or a file name holds must not reach the terminal as control characters
  if (typeof value !== "object" || value === null) return [[path, JSON.stringify(value)]];
  const entries = Object.entries(value);
  if (entries.length === 0) return [[path, Array.isArray(value) ? "none" : "-"]];
  return entries.flatMap(([key, inner]) => {
    const name = Array.isArray(value) ? `${path}[${key}]` : path === "" ? key : `${path}.${key}`;
    return flatten(inner, name);
  });
}
