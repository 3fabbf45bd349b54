/** Words of GRUB's script language: quotes, escapes, variables, comments (GRUB manual, section 6.1 "Quoting"). */
import { GrubError, type Part, type Word } from "./syntax.ts";

export type Token =
  | { readonly kind: "word"; readonly word: Word; readonly line: number }
  /** `;` and the end of a line are the same. */
  | { readonly kind: "end-of-command" | "{" | "}" | "end"; readonly line: number };

const blanks = /[ \t\r]+/y;
/** What ends a word that is not quoted. */
const metacharacter = /[{}|&$;<> \t\r\n'"\\]/;
const others = /[^{}|&$;<> \t\r\n'"\\]+/y;
const nameStart = /[A-Za-z_]/;
const nameRest = /[A-Za-z0-9_]/;
const special = /[0-9@*#?]/;
const charactersMax = 4 * 2 ** 20;

/** Throws GrubError on what GRUB's language does not have. */
export function tokensOf(text: string, file: string): Token[] {
  if (text.length > charactersMax) {
    throw new GrubError(
      { file, line: 1 },
      `${text.length} characters, ${charactersMax} is the most`,
    );
  }
  return new Lexer(text, file).all();
}

class Lexer {
  #at = 0;
  #line = 1;

  constructor(
    readonly text: string,
    readonly file: string,
  ) {}

  all(): Token[] {
    const tokens: Token[] = [];
    for (let token = this.#next(); ; token = this.#next()) {
      tokens.push(token);
      if (token.kind === "end") return tokens;
    }
  }

  #fail(why: string, line = this.#line): never {
    throw new GrubError({ file: this.file, line }, why);
  }

  #next(): Token {
    this.#skip();
    const line = this.#line;
    const sign = this.text[this.#at];
    switch (sign) {
      case undefined:
        return { kind: "end", line };
      case "\n":
        this.#line++;
        this.#at++;
        return { kind: "end-of-command", line };
      case ";":
        this.#at++;
        return { kind: "end-of-command", line };
      case "{":
      case "}":
        this.#at++;
        return { kind: sign, line };
      case "|":
      case "&":
      case "<":
      case ">":
        return this.#fail(`chv does not know what ${sign} means in a grub.cfg`);
      default:
        return { kind: "word", word: { parts: this.#parts(), line }, line };
    }
  }

  /** Blanks, comments, and lines that go on. */
  #skip(): void {
    for (;;) {
      this.#pass(blanks);
      const sign = this.text[this.#at];
      if (sign === "\\" && this.text[this.#at + 1] === "\n") {
        this.#at += 2;
        this.#line++;
      } else if (sign === "#") {
        const end = this.text.indexOf("\n", this.#at);
        this.#at = end < 0 ? this.text.length : end;
      } else return;
    }
  }

  #parts(): Part[] {
    const parts: Part[] = [];
    const text = (value: string, quoted: boolean) =>
      parts.push({ kind: "text", text: value, quoted });
    for (;;) {
      const sign = this.text[this.#at];
      if (sign === "'") text(this.#single(), true);
      else if (sign === '"') this.#double(parts);
      else if (sign === "$") this.#variable(parts, false);
      else if (sign === "\\") {
        const escaped = this.text[this.#at + 1];
        if (escaped === undefined) this.#fail("it ends with a backslash");
        this.#at += 2;
        if (escaped === "\n") this.#line++;
        else text(escaped, true);
      } else if (sign === undefined || metacharacter.test(sign)) return parts;
      else text(this.#pass(others), false);
    }
  }

  /** Goes on behind what the expression matches here. */
  #pass(what: RegExp): string {
    const start = this.#at;
    what.lastIndex = start;
    if (what.test(this.text)) this.#at = what.lastIndex;
    return this.text.slice(start, this.#at);
  }

  #single(): string {
    const start = ++this.#at;
    const end = this.text.indexOf("'", start);
    if (end < 0) this.#fail("a ' that is not closed");
    this.#at = end + 1;
    const value = this.text.slice(start, end);
    this.#countLines(value);
    return value;
  }

  #countLines(text: string): void {
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) this.#line++;
  }

  #double(parts: Part[]): void {
    const { length } = parts;
    const start = this.#line;
    this.#at++;
    let text = "";
    const flush = () => {
      if (text !== "") parts.push({ kind: "text", text, quoted: true });
      text = "";
    };
    for (;;) {
      const sign = this.text[this.#at];
      if (sign === undefined) this.#fail('a " that is not closed', start);
      if (sign === '"') break;
      if (sign === "\n") this.#line++;
      if (sign === "$") {
        flush();
        this.#variable(parts, true);
      } else if (sign === "\\" && /["\\$\n]/.test(this.text[this.#at + 1] ?? "")) {
        const escaped = this.text[this.#at + 1]!;
        if (escaped === "\n") this.#line++;
        else text += escaped;
        this.#at += 2;
      } else {
        text += sign;
        this.#at++;
      }
    }
    this.#at++;
    flush();
    if (parts.length === length) parts.push({ kind: "text", text: "", quoted: true });
  }

  /** `$name`, `${name}`, `$1`, `$@`; `$"…"` is a text to be translated. */
  #variable(parts: Part[], quoted: boolean): void {
    const sign = this.text[this.#at + 1] ?? "";
    this.#at++;
    if (sign === '"' && !quoted) return; // the text follows
    const name = this.#name(sign);
    if (name === undefined) this.#fail("a $ without a variable's name");
    parts.push({ kind: "variable", text: name, quoted });
  }

  #name(sign: string): string | undefined {
    const start = this.#at;
    if (sign === "{") {
      const end = this.text.indexOf("}", start);
      const name = end < 0 ? "" : this.text.slice(start + 1, end);
      if (!/^(?:[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?])$/.test(name)) {
        return this.#fail("a $ and { without a variable's name and }");
      }
      this.#at = end + 1;
      return name;
    }
    if (special.test(sign)) {
      this.#at++;
      while (/[0-9]/.test(sign) && /[0-9]/.test(this.text[this.#at] ?? "")) this.#at++;
      return this.text.slice(start, this.#at);
    }
    if (!nameStart.test(sign)) return undefined;
    while (nameRest.test(this.text[this.#at] ?? "")) this.#at++;
    return this.text.slice(start, this.#at);
  }
}
