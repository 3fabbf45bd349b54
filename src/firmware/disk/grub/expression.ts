/** GRUB's `test` and `[`: expressions on strings, numbers and files, read from the left (GRUB's commands/test.c). */

/** What an expression asks about files. */
export interface FileTests {
  exists(path: string): boolean;
  isFolder(path: string): boolean;
  /** There, and longer than nothing. */
  hasContent(path: string): boolean;
}

type Compare = (a: string, b: string) => boolean;

const numbers =
  (compare: (a: number, b: number) => boolean): Compare =>
  (a, b) =>
    compare(number(a), number(b));

/** As strtol: digits as far as they go. */
function number(text: string): number {
  const value = Number.parseInt(text, 10);
  return Number.isNaN(value) ? 0 : value;
}

/** `-pgt` and `-plt` leave out what both begin with. */
const unprefixed =
  (compare: (a: number, b: number) => boolean): Compare =>
  (a, b) => {
    let at = 0;
    while (at < a.length && a[at] === b[at]) at++;
    return compare(number(a.slice(at)), number(b.slice(at)));
  };

const binary: Readonly<Record<string, Compare>> = {
  "=": (a, b) => a === b,
  "==": (a, b) => a === b,
  "!=": (a, b) => a !== b,
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
  "-eq": numbers((a, b) => a === b),
  "-ge": numbers((a, b) => a >= b),
  "-gt": numbers((a, b) => a > b),
  "-le": numbers((a, b) => a <= b),
  "-lt": numbers((a, b) => a < b),
  "-ne": numbers((a, b) => a !== b),
  "-pgt": unprefixed((a, b) => a > b),
  "-plt": unprefixed((a, b) => a < b),
};
/** Those that compare times of files, which are not read here. */
const onTimes = /^-[no]t(?:[+-]?\d+)?$/;

/** Whether the expression holds. `refuse` is called for what chv does not know. */
export function holds(
  args: readonly string[],
  files: FileTests,
  refuse: (what: string) => never,
): boolean {
  return new Expression(args, files, refuse).value();
}

class Expression {
  #at = 0;
  #depth = 0;

  constructor(
    readonly args: readonly string[],
    readonly files: FileTests,
    readonly refuse: (what: string) => never,
  ) {}

  /** To the end, or to the `)` that closes what was opened. Terms beside each other are joined by "and". */
  value(): boolean {
    if (++this.#depth > 50) return this.refuse("a test with more than 50 levels of ( )");
    let some = false;
    let all = true;
    let terms = 0;
    let inverted = false;
    const term = (value: boolean) => {
      all = all && value !== inverted;
      inverted = false;
      terms++;
    };
    while (this.#at < this.args.length && this.args[this.#at] !== ")") {
      const [first, second, third] = this.args.slice(this.#at, this.#at + 3);
      if (second !== undefined && third !== undefined) {
        if (onTimes.test(second)) this.refuse(`test ${second}`);
        const compare = Object.hasOwn(binary, second) ? binary[second] : undefined;
        if (compare) {
          term(compare(first!, third));
          this.#at += 3;
          continue;
        }
      }
      if (second !== undefined && /^-[defnsz]$/.test(first!)) {
        term(this.#unary(first!, second));
        this.#at += 2;
        continue;
      }
      this.#at++;
      if (first === "!") inverted = !inverted;
      else if (first === "-o") {
        some = some || (all && terms > 0);
        all = true;
        terms = 0;
      } else if (first === "(") {
        term(this.value());
        this.#at++;
      } else if (first !== "-a") term(first !== "");
    }
    this.#depth--;
    return some || (all && terms > 0);
  }

  #unary(operator: string, operand: string): boolean {
    const { files } = this;
    if (operator === "-n") return operand !== "";
    if (operator === "-z") return operand === "";
    if (operator === "-d") return files.isFolder(operand);
    if (operator === "-s") return files.hasContent(operand);
    if (operator === "-f") return files.exists(operand) && !files.isFolder(operand);
    return files.exists(operand);
  }
}
