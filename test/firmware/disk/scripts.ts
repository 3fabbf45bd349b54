// biome-ignore-all lint/suspicious/noTemplateCurlyInString: this is how the language that is tested writes variables
/** GRUB scripts, run as chv runs them, and scripts of random words. */
import fc from "fast-check";
import { commandsOf } from "../../../src/firmware/disk/grub/commands.ts";
import { Interpreter } from "../../../src/firmware/disk/grub/interpreter.ts";
import { Loader } from "../../../src/firmware/disk/grub/loader.ts";
import { DiskError } from "../../../src/firmware/disk/medium.ts";
import { soon } from "../../processor-time.ts";
import { disk } from "./trees.ts";

/** Runs a script whose `echo` is heard. */
export function run(text: string): string {
  const said: string[] = [];
  const interpreter = new Interpreter((name) => {
    if (name !== "echo") return commands(name);
    return (args) => {
      said.push(args.join(" "));
      return true;
    };
  });
  const loader = new Loader(
    disk({ number: 1, files: { "/grub.cfg": "" } }),
    interpreter.environment,
  );
  const commands = commandsOf(loader);
  interpreter.source(text, "grub.cfg");
  return said.join("\n");
}

/** Pieces of the language in any order. */
const piece = fc.constantFrom(
  ...[
    "if",
    "then",
    "else",
    "elif",
    "fi",
    "while",
    "do",
    "done",
    "for",
    "in",
    "function",
    "f",
    "{",
    "}",
  ],
  ...[
    "menuentry",
    "submenu",
    "set",
    "a=b",
    "$a",
    "${a}",
    '"$a"',
    "'x'",
    "[",
    "]",
    "=",
    "-e",
    "!",
    ";",
  ],
  ...[
    "\n",
    "\\\n",
    "#",
    "search",
    "--set",
    "--label",
    "linux",
    "initrd",
    "/grub.cfg",
    "source",
    "$@",
  ],
  ...[
    "configfile",
    "load_env",
    "blscfg",
    "true",
    "false",
    "return",
    "break",
    "shift",
    "eval",
    "\\",
    "$",
  ],
);

/** Runs so many. */
export function randomScripts(runs: number): void {
  const words = fc.array(fc.oneof(piece, fc.string({ maxLength: 5 })), { maxLength: 60 });
  fc.assert(
    fc.property(words, (script) => {
      soon(() => {
        try {
          run(script.join(" "));
        } catch (error) {
          if (!(error instanceof DiskError)) throw error;
        }
      });
    }),
    { numRuns: runs },
  );
}
