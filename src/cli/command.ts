/** A command beside plain `chv`: what it is called with, and how it runs. */
import type { ObjectSchema } from "../machine/config/shape.ts";
import type { VmmOptions } from "../machine/config/vmm.ts";

export interface Command {
  readonly description: string;
  readonly schema: ObjectSchema;
  /** Its positionals, in order: name and description. */
  readonly positionals: readonly (readonly [name: string, description: string])[];
  /** It takes arguments after `--`. */
  readonly takesRest: boolean;
  /** Options of the process that it refuses: they are not in its help. */
  readonly refuses?: readonly string[];
  /** Lines for its help: the commands that it has itself. */
  readonly more?: () => Promise<readonly string[]>;
  /** Runs it; gives the exit code. */
  readonly run: (input: CommandInput) => Promise<number>;
}

export interface CommandInput {
  /** The output of the command's schema. */
  readonly options: unknown;
  readonly positionals: readonly string[];
  /** What followed `--`, byte for byte. */
  readonly rest: readonly string[];
  /** The options of the process: its log. */
  readonly vmm: VmmOptions;
}
