/**
 * The argument pass: argv cut into options, values, positionals and what follows `--`. It knows
 * which options there are and how each is given, nothing of what values mean.
 *
 * `--name VALUE` and `--name=VALUE` are the same; a value that begins with a dash needs the second
 * form (a lone `-` does not). A list option takes every argument up to the next that begins with a
 * dash. Letters cluster (`-vvV`).
 */
import { UsageError } from "../exit-codes.ts";
import { nearest, quoted } from "./nearest.ts";
import type { Option } from "./option-table.ts";

export interface Arguments {
  /**
   * The values of each option that was given, in order; a count or a bare switch gives "on" each
   * time.
   */
  readonly given: ReadonlyMap<Option, readonly string[]>;
  readonly positionals: readonly string[];
  /** What follows `--`, byte for byte; undefined without one. */
  readonly rest: readonly string[] | undefined;
  /** The action that ended the pass (help or version). */
  readonly action: string | undefined;
  /** The command's name, and the index in argv of what follows it. */
  readonly command: { readonly name: string; readonly next: number } | undefined;
}

export interface Grammar {
  readonly options: readonly Option[];
  /** The first positionals name one of these, in a word or two, and end the pass. */
  readonly commands?: readonly string[];
  /** How many positionals are allowed. */
  readonly positionals?: number;
}

const looksLikeOption = (argument: string) => argument.length > 1 && argument.startsWith("-");

export function readArguments(argv: readonly string[], grammar: Grammar): Arguments {
  return new Pass(argv, grammar).run();
}

class Pass {
  readonly given = new Map<Option, string[]>();
  readonly positionals: string[] = [];
  rest: string[] | undefined;
  action: string | undefined;
  command: { name: string; next: number } | undefined;
  #next = 0;

  constructor(
    readonly argv: readonly string[],
    readonly grammar: Grammar,
  ) {}

  run(): Arguments {
    while (this.#next < this.argv.length && !this.action && !this.command) {
      const argument = this.argv[this.#next++]!;
      if (argument === "--") {
        this.rest = this.argv.slice(this.#next);
        break;
      }
      if (argument.startsWith("--")) this.#long(argument);
      else if (looksLikeOption(argument)) this.#cluster(argument);
      else this.#positional(argument);
    }
    return this;
  }

  #long(argument: string): void {
    const equals = argument.indexOf("=");
    const name = argument.slice(2, equals < 0 ? undefined : equals);
    const option = this.grammar.options.find((one) => one.name === name);
    if (option === undefined) throw this.#unknown(equals < 0 ? argument : `--${name}`);
    this.#take(option, equals < 0 ? undefined : argument.slice(equals + 1));
  }

  /** `-vvV`: letters that take no value. */
  #cluster(argument: string): void {
    for (const letter of argument.slice(1)) {
      const option = this.grammar.options.find((one) => one.short === letter);
      if (option === undefined) throw this.#unknown(argument);
      this.#take(option, undefined);
      if (this.action) return;
    }
  }

  #take(option: Option, value: string | undefined): void {
    const { kind } = option;
    const name = `--${option.name}`;
    if ((kind === "action" || kind === "count") && value !== undefined) {
      throw new UsageError(`${name} takes no value; leave out =${quoted(value)}`, name);
    }
    if (kind === "action") {
      this.action = option.name;
    } else if (kind === "count") {
      this.#add(option, "on");
    } else {
      if (kind !== "list" && this.given.has(option)) {
        throw new UsageError(`${name} is given twice; it takes one value, keep one`, name);
      }
      if (value !== undefined) this.#add(option, value);
      else if (kind === "switch") this.#add(option, "on");
      else this.#following(option, name);
      // More values of a list may follow either form.
      while (kind === "list" && this.#hasValue()) this.#add(option, this.argv[this.#next++]!);
    }
  }

  #hasValue(): boolean {
    const next = this.argv[this.#next];
    return next !== undefined && !looksLikeOption(next);
  }

  #following(option: Option, name: string): void {
    if (!this.#hasValue()) {
      const next = this.argv[this.#next];
      const hint =
        next === undefined ? `write ${name} VALUE` : `for one with a dash write ${name}=VALUE`;
      throw new UsageError(`${name} needs a value; ${hint}`, name);
    }
    this.#add(option, this.argv[this.#next++]!);
  }

  #add(option: Option, value: string): void {
    const values = this.given.get(option);
    if (values === undefined) this.given.set(option, [value]);
    else values.push(value);
  }

  #positional(argument: string): void {
    const { commands = [], positionals = 0 } = this.grammar;
    const command = commands.find((name) => this.#spells(name, argument));
    if (command !== undefined) {
      this.#next += command.split(" ").length - 1;
      this.command = { name: command, next: this.#next };
      return;
    }
    if (this.positionals.length < positionals) {
      this.positionals.push(argument);
      return;
    }
    const first = commands.some((name) => name.startsWith(`${argument} `));
    const next = this.argv[this.#next];
    const given = first && next !== undefined ? `${argument} ${next}` : argument;
    // after options it is rather a value too many than a command
    const meant = this.given.size > 0 ? undefined : nearest(given, commands);
    if (meant === undefined) {
      throw new UsageError(`unexpected argument ${quoted(argument)}; options begin with --`);
    }
    throw new UsageError(`unknown command ${quoted(given)}; did you mean ${meant}?`);
  }

  /** A command's name may be two words. */
  #spells(name: string, argument: string): boolean {
    const [first, ...rest] = name.split(" ");
    return first === argument && rest.every((word, i) => word === this.argv[this.#next + i]);
  }

  #unknown(argument: string): UsageError {
    const word = argument.replace(/^-+/, "");
    const meant = nearest(
      word,
      this.grammar.options.map(({ name }) => name),
    );
    return new UsageError(`unknown option ${quoted(argument)}; did you mean --${meant}?`, argument);
  }
}
