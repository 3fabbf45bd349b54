/**
 * Runs GRUB scripts: functions, conditions, loops, words and their variables. What a command does is in commands.ts.
 * Everything is bounded: a script that would go on for ever is an error.
 */
import { Environment } from "./environment.ts";
import { parse } from "./parser.ts";
import { type Block, type Command, GrubError, type Place, type Word } from "./syntax.ts";

const stepsMax = 100_000;
const callsMax = 50;
const filesMax = 200;
/** Characters that words expand to, in all. */
const charactersMax = 16 * 2 ** 20;

/** Why a list of commands ended before its end. `boot` and `exit` end everything. */
export type Flow = "next" | "break" | "continue" | "return" | "boot" | "exit";

export interface CallContext {
  readonly interpreter: Interpreter;
  readonly at: Place;
  readonly block: Block | undefined;
}

/** One command: whether it succeeded. Throws GrubError. */
export type Handler = (args: readonly string[], context: CallContext) => boolean;

export class Interpreter {
  readonly environment = new Environment();
  flow: Flow = "next";
  readonly #functions = new Map<string, Block>();
  #status = true;
  /** Words with * and ? stand for files from now on (`insmod regexp`). */
  matchesFiles = false;
  /** What `$?` shows: 0 after a success. */
  code = 0;
  #steps = 0;
  #calls = 0;
  #files = 0;
  #characters = 0;

  constructor(readonly handlers: (name: string) => Handler | undefined) {}

  /** Runs a file's text; whether its last command succeeded. */
  source(text: string, file: string): boolean {
    const at = { file, line: 1 };
    if (++this.#files > filesMax) throw new GrubError(at, `more than ${filesMax} files are read`);
    return this.#deeper(at, () => this.run(parse(text, file)));
  }

  run(block: Block): boolean {
    this.#status = true;
    for (const command of block) {
      this.#step(command.at);
      this.#status = this.#command(command);
      this.code = this.#status ? 0 : this.code || 1;
      if (this.flow !== "next") break;
    }
    return this.#status;
  }

  /** Runs a block with `$1` and on. */
  call(block: Block, args: readonly string[], at: Place): boolean {
    const { environment } = this;
    const outer = environment.positional;
    environment.positional = args;
    try {
      return this.#deeper(at, () => this.run(block));
    } finally {
      environment.positional = outer;
    }
  }

  /** Text that is made costs; a script that makes it without end is ended. */
  spend(characters: number, at: Place): void {
    this.#characters += characters;
    if (this.#characters > charactersMax) {
      throw new GrubError(at, `words of more than ${charactersMax} characters in all`);
    }
  }

  #deeper<T>(at: Place, run: () => T): T {
    if (++this.#calls > callsMax) throw new GrubError(at, `calls more than ${callsMax} deep`);
    try {
      return run();
    } finally {
      this.#calls--;
    }
  }

  #step(at: Place): void {
    if (++this.#steps > stepsMax) {
      throw new GrubError(at, `still running after ${stepsMax} commands`);
    }
  }

  #command(command: Command): boolean {
    switch (command.kind) {
      case "simple":
        return this.#simple(command);
      case "function":
        this.#functions.set(command.name, command.body);
        return true;
      case "if":
        for (const { condition, body } of command.branches) {
          const met = this.run(condition);
          if (this.flow !== "next") return met;
          if (met) return this.run(body);
        }
        return command.otherwise ? this.run(command.otherwise) : true;
      case "loop":
        for (;;) {
          this.#step(command.at);
          const met = this.run(command.condition);
          if (this.flow !== "next" || met === command.endsOn) return true;
          this.run(command.body);
          if (!this.#goesOn()) return this.#status;
        }
      case "for":
        for (const value of this.#expand(command.words, command.at)) {
          this.#step(command.at);
          this.environment.set(command.name, value);
          this.run(command.body);
          if (!this.#goesOn()) break;
        }
        return this.#status;
    }
  }

  /** Whether a loop's next turn comes. */
  #goesOn(): boolean {
    const { flow } = this;
    if (flow === "break" || flow === "continue") this.flow = "next";
    return flow === "next" || flow === "continue";
  }

  #simple(command: Command & { kind: "simple" }): boolean {
    const { at, block } = command;
    const [first, ...rest] = this.#expand(command.words, at);
    if (first === undefined) return true; // all of it was variables without a value
    const inverted = first === "!";
    const [name, args] = inverted ? [rest[0] ?? "", rest.slice(1)] : [first, rest];
    this.code = 0;
    return this.#call(name, args, { interpreter: this, at, block }) !== inverted;
  }

  #call(name: string, args: readonly string[], context: CallContext): boolean {
    const { at, block } = context;
    const body = this.#functions.get(name);
    const handler = this.handlers(name);
    // GRUB looks for commands first
    if (handler) return handler(args, context);
    if (block) throw new GrubError(at, `chv does not know the command "${name}" with { }`);
    if (body) {
      const succeeded = this.call(body, args, at);
      if (this.flow === "return") this.flow = "next";
      return succeeded;
    }
    const equals = name.indexOf("=");
    if (equals > 0) {
      this.environment.set(name.slice(0, equals), name.slice(equals + 1));
      return true;
    }
    throw new GrubError(at, `chv does not know the command "${name}"`);
  }

  /** Words as arguments: variables by their values, split at blanks where they are not quoted. */
  #expand(words: readonly Word[], at: Place): string[] {
    return words.flatMap((word) => this.#expandWord(word, { ...at, line: word.line }));
  }

  #expandWord({ parts }: Word, at: Place): string[] {
    const made: string[] = [];
    /** The argument in the making; undefined when there is none yet. */
    let open: string | undefined;
    for (const { kind, text, quoted } of parts) {
      if (kind === "text") {
        if (this.matchesFiles && !quoted && /[*?]/.test(text)) {
          throw new GrubError(at, `chv does not look for files by patterns: ${text}`);
        }
        open = (open ?? "") + text;
        this.spend(text.length, at);
        continue;
      }
      const values = this.environment.values(text, this.code);
      for (const [i, value] of values.entries()) {
        this.spend(value.length + 1, at);
        if (i > 0 && (text === "@" || !quoted)) {
          if (open !== undefined) made.push(open);
          open = undefined;
        } else if (i > 0) open = `${open} `;
        if (quoted) {
          open = (open ?? "") + value;
          continue;
        }
        const pieces = value.split(/[ \t\n]+/);
        for (const [j, piece] of pieces.entries()) {
          if (j > 0) {
            if (open !== undefined) made.push(open);
            open = undefined;
          }
          if (piece !== "") open = (open ?? "") + piece;
        }
      }
    }
    if (open !== undefined) made.push(open);
    return made;
  }
}
