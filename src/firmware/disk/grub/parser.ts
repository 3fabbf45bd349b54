/** From tokens to commands: the grammar of GRUB's script language, without what GRUB itself does not do. */
import { type Token, tokensOf } from "./lexer.ts";
import { type Block, type Command, GrubError, type Place, type Word } from "./syntax.ts";

const depthMax = 100;
/** Words of the grammar that no command here can begin with. */
const reserved = ["case", "do", "done", "elif", "else", "esac", "fi", "in", "select", "then"];

/** Throws GrubError naming the line. */
export function parse(text: string, file: string): Block {
  return new Parser(tokensOf(text, file), file).program();
}

/** A word that stands there as it is, unquoted; undefined for others. */
function literal({ parts }: Word): string | undefined {
  const [part] = parts;
  if (parts.length !== 1 || part!.kind !== "text" || part!.quoted) return undefined;
  return part!.text;
}

class Parser {
  #at = 0;
  #depth = 0;

  constructor(
    readonly tokens: readonly Token[],
    readonly file: string,
  ) {}

  program(): Block {
    const block = this.#list([]);
    const token = this.#token;
    if (token.kind !== "end") this.#fail(`a ${this.#shown(token)} that closes nothing`);
    return block;
  }

  get #token(): Token {
    return this.tokens[this.#at]!;
  }

  get #place(): Place {
    return { file: this.file, line: this.#token.line };
  }

  #fail(why: string, place = this.#place): never {
    throw new GrubError(place, why);
  }

  #shown(token: Token): string {
    if (token.kind === "word") return `"${literal(token.word) ?? "word"}"`;
    if (token.kind === "end") return "end of the file";
    return token.kind === "end-of-command" ? "end of a command" : token.kind;
  }

  /** The reserved word or plain word that is next, if it is one. */
  get #next(): string | undefined {
    const token = this.#token;
    return token.kind === "word" ? literal(token.word) : undefined;
  }

  /** Commands up to one of `ends`, a `}` or the end of the file; the end stays. */
  #list(ends: readonly string[]): Block {
    if (++this.#depth > depthMax) this.#fail(`more than ${depthMax} levels deep`);
    const commands: Command[] = [];
    for (;;) {
      while (this.#token.kind === "end-of-command") this.#at++;
      const { kind } = this.#token;
      if (kind === "end" || kind === "}") break;
      const word = this.#next;
      if (word !== undefined && ends.includes(word)) break;
      commands.push(this.#command());
    }
    this.#depth--;
    return commands;
  }

  #expect(word: string, opened: Place): void {
    if (this.#next !== word) {
      this.#fail(
        `${this.#shown(this.#token)} where "${word}" should stand (opened in line ${opened.line})`,
      );
    }
    this.#at++;
  }

  #command(): Command {
    const at = this.#place;
    const word = this.#next;
    if (word === "if") return this.#if(at);
    if (word === "while" || word === "until") return this.#loop(at, word === "until");
    if (word === "for") return this.#for(at);
    if (word === "function") return this.#function(at);
    if (word !== undefined && reserved.includes(word)) {
      this.#fail(`"${word}" where a command should stand`);
    }
    return this.#simple(at);
  }

  #simple(at: Place): Command {
    const words = this.#words();
    if (words.length === 0)
      this.#fail(`a ${this.#shown(this.#token)} where a command should stand`);
    const block = this.#token.kind === "{" ? this.#braces() : undefined;
    return { kind: "simple", at, words, block };
  }

  #words(): Word[] {
    const words: Word[] = [];
    for (let token = this.#token; token.kind === "word"; token = this.#token) {
      words.push(token.word);
      this.#at++;
    }
    return words;
  }

  #braces(): Block {
    const opened = this.#place;
    this.#at++;
    const body = this.#list([]);
    if (this.#token.kind !== "}") this.#fail("a { that is not closed", opened);
    this.#at++;
    return body;
  }

  #if(at: Place): Command {
    const branches: { condition: Block; body: Block }[] = [];
    do {
      this.#at++;
      const condition = this.#list(["then"]);
      this.#expect("then", at);
      branches.push({ condition, body: this.#list(["elif", "else", "fi"]) });
    } while (this.#next === "elif");
    let otherwise: Block | undefined;
    if (this.#next === "else") {
      this.#at++;
      otherwise = this.#list(["fi"]);
    }
    this.#expect("fi", at);
    return { kind: "if", at, branches, otherwise };
  }

  #loop(at: Place, endsOn: boolean): Command {
    this.#at++;
    const condition = this.#list(["do"]);
    return { kind: "loop", at, endsOn, condition, body: this.#do(at) };
  }

  #for(at: Place): Command {
    this.#at++;
    const name = this.#next ?? this.#fail("a variable's name should follow for");
    this.#at++;
    this.#expect("in", at);
    const words = this.#words();
    while (this.#token.kind === "end-of-command") this.#at++;
    return { kind: "for", at, name, words, body: this.#do(at) };
  }

  #do(at: Place): Block {
    this.#expect("do", at);
    const body = this.#list(["done"]);
    this.#expect("done", at);
    return body;
  }

  #function(at: Place): Command {
    this.#at++;
    const name = this.#next ?? this.#fail("a name should follow function");
    this.#at++;
    while (this.#token.kind === "end-of-command") this.#at++;
    if (this.#token.kind !== "{") this.#fail(`a { should follow function ${name}`);
    return { kind: "function", at, name, body: this.#braces() };
  }
}
