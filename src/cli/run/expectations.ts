/** Steps on the consoles: wait for a line, type something, wait for the next; and lines that must not come. */
import { RE2JS } from "re2js";
import { ConfigError, UsageError } from "../../exit-codes.ts";
import { readSmallFile } from "../../machine/small-file.ts";
import type { RunOptions } from "./options.ts";

const scriptBytesMax = 2 ** 20;

export type Step =
  | { readonly kind: "expect"; readonly text: string; readonly pattern: RE2JS }
  | { readonly kind: "send"; readonly text: string };

/** RE2's syntax, whose time grows with the line alone. Throws UsageError. */
function compile(option: string, text: string): RE2JS {
  try {
    return RE2JS.compile(text);
  } catch (error) {
    const why = `no regular expression (${(error as Error).message}); write one in RE2's syntax`;
    throw new UsageError(`${option} ${JSON.stringify(text)}: ${why}`, option.split(" ")[0]);
  }
}

const expectStep = (option: string, text: string): Step => ({
  ...{ kind: "expect", text, pattern: compile(option, text) },
});

/** Enter, Ctrl-C, Ctrl-D. */
const enders = ["\r", "\x03", "\x04"];

/** `\n`, `\r`, `\t`, `\e`, `\xHH` and `\\` in what is typed; a line's end is typed as Enter. */
function typed(text: string): string {
  const plain = text.replaceAll(
    /\\(?:x([0-9a-f]{2})|(.))/gi,
    (all, hex?: string, letter?: string) => {
      if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex, 16));
      const letters: Record<string, string> = { n: "\r", r: "\r", t: "\t", e: "\x1b", "\\": "\\" };
      return letters[letter!] ?? all;
    },
  );
  return enders.some((end) => plain.endsWith(end)) ? plain : `${plain}\r`;
}

/** Of `--expect` and `--send`, taken in turn; or of `--script`. Throws UsageError and ConfigError. */
export function readSteps({ expect = [], send = [], script }: RunOptions): Step[] {
  if (send.length > expect.length) {
    throw new UsageError("--send without an --expect before it; add the expectation", "--send");
  }
  const steps: Step[] = [];
  for (const [i, text] of expect.entries()) {
    steps.push(expectStep("--expect", text));
    if (send[i] !== undefined) steps.push({ kind: "send", text: typed(send[i]) });
  }
  if (script === undefined) return steps;
  if (steps.length > 0) {
    throw new UsageError(
      "--script and --expect: one of them says the steps; leave one out",
      "--script",
    );
  }
  return readScript(script);
}

function readScript(path: string): Step[] {
  let text: string;
  try {
    text = new TextDecoder().decode(readSmallFile(path, scriptBytesMax));
  } catch (error) {
    const why = `${(error as { code?: string }).code}; name a file that chv may read`;
    throw new ConfigError(`--script ${path}: ${why}`, "--script");
  }
  if (text.length > scriptBytesMax) {
    throw new ConfigError(`--script ${path}: more than 1 MiB; give a smaller one`, "--script");
  }
  return text.split("\n").flatMap((line, i): Step[] => {
    if (/^\s*(?:#|$)/.test(line)) return [];
    const [, word, rest] = /^\s*(expect|send) (.+?)\r?$/.exec(line) ?? [];
    const where = `--script ${path}: line ${i + 1}`;
    if (word === "expect") return [expectStep(where, rest!)];
    if (word === "send") return [{ kind: "send", text: typed(rest!) }];
    throw new UsageError(`${where}: neither "expect REGEX" nor "send TEXT"`, "--script");
  });
}

export class Expectations {
  #at = 0;
  /** The line of each console that met the last expectation and has no end yet: what follows it may meet the next. */
  readonly #met = new Map<string, string>();
  #failure: { text: string; line: string } | undefined;
  readonly #failOn: readonly { readonly text: string; readonly pattern: RE2JS }[];

  constructor(
    readonly steps: readonly Step[],
    failOn: readonly string[],
    readonly types: (console: string, text: string) => void,
    readonly allMet: () => void,
    readonly failed: () => void,
  ) {
    this.#failOn = failOn.map((text) => ({ text, pattern: compile("--fail-on", text) }));
  }

  /** The expectation that is waited for; undefined when all are met. */
  get open(): string | undefined {
    return this.steps[this.#at]?.text;
  }

  /** The guest starts over. */
  beginLife(): void {
    this.#met.clear();
  }

  /** A line that fails the run may still grow. */
  #look(line: string): void {
    if (this.#failure !== undefined) {
      if (line.startsWith(this.#failure.line)) this.#failure.line = line;
      return;
    }
    const broken = this.#failOn.find(({ pattern }) => pattern.matcher(line).find());
    if (!broken) return;
    this.#failure = { text: broken.text, line };
    this.failed();
  }

  /** The expression that must not match, and the line where it does. */
  get failure(): { readonly text: string; readonly line: string } | undefined {
    return this.#failure;
  }

  /** A line, or one that has not ended yet. */
  heard(console: string, line: string, ended: boolean): void {
    this.#look(line);
    const before = this.#met.get(console);
    const same = before !== undefined && line.startsWith(before);
    if (!same || ended) this.#met.delete(console);
    const step = this.steps[this.#at];
    const from = same ? before.length : 0;
    if (step?.kind !== "expect" || !step.pattern.matcher(line).find(from)) return;
    if (!ended) this.#met.set(console, line);
    this.#at++;
    for (let next = this.steps[this.#at]; next?.kind === "send"; next = this.steps[++this.#at]) {
      this.types(console, next.text);
    }
    if (this.#at === this.steps.length) this.allMet();
  }
}
