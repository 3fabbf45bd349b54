/**
 * Everything that changes in a device lies in its state struct in shared memory, or another thread would not see it: so
 * the classes in src/devices have only readonly fields. Read from the source as Biome formats it: a class member stands
 * two columns to the right of its class.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Glob } from "bun";

const devices = join(import.meta.dir, "../../src/devices");

const modifiers = "(?:(?:public|private|protected|static|declare|override|abstract|accessor) )*";
const classStart = /^( *)(?:(?:export|default|abstract|return) |.*[=(] ?)*class\b/;
/** A field: a name that is followed by a type, a value or the end, not by parameters. */
const field = new RegExp(`^${modifiers}(readonly )?(?:#?[\\w$]+|\\[.*?\\])[?!]?(?:;| =|: )`);
/** A parameter of the constructor that becomes a field. */
const parameterProperty =
  /(?:^|[(,] *)((?:(?:public|private|protected|override|readonly) )+)[\w$]+[?]?(?::|,| =)/g;

/** The lines of a source text that declare a field that can be assigned, as `line: text`. */
function mutableFields(source: string): string[] {
  const found: string[] = [];
  const indents: number[] = [];
  let inConstructor = false;
  for (const [index, line] of source.split("\n").entries()) {
    const text = line.trimStart();
    const indent = line.length - text.length;
    if (/^(?:\/\/|\/?\*)/.test(text)) continue;
    const start = classStart.exec(line);
    const member = indents.at(-1);
    if (member !== undefined && indent === member) {
      const match = field.exec(text);
      if (match && !match[1] && !/^(?:return|get|set|async)\b/.test(text)) {
        found.push(`${index + 1}: ${text}`);
      }
      inConstructor = /^(?:(?:private|protected|public) )?constructor\(/.test(text);
    }
    if (inConstructor) {
      for (const [, words] of text.matchAll(parameterProperty)) {
        if (!words!.includes("readonly")) found.push(`${index + 1}: ${text}`);
      }
      if (/\{\}?$/.test(text)) inConstructor = false;
    }
    if (member !== undefined && indent === member - 2 && text.startsWith("}")) indents.pop();
    if (start && !text.endsWith("}")) indents.push(start[1]!.length + 2);
  }
  return found;
}

test("the classes in src/devices have only readonly fields", async () => {
  const found: string[] = [];
  let files = 0;
  for await (const name of new Glob("**/*.ts").scan(devices)) {
    files++;
    const source = await Bun.file(join(devices, name)).text();
    found.push(...mutableFields(source).map((line) => `${name}:${line}`));
  }

  expect(files).toBeGreaterThan(0);
  expect(found).toEqual([]);
});

test.each([
  "  count = 0;",
  "  #count = 0;",
  "  count: number;",
  "  private count?: number;",
  "  static instances = 0;",
  "  declare count: number;",
  "  handler = () => {",
  "  [Symbol.iterator] = 3;",
  "  accessor count = 1;",
  "  constructor(private count: number) {}",
  "  constructor(readonly a: number, public count: number) {}",
  "  constructor(\n    readonly a: number,\n    protected count = 1,\n  ) {}",
])("finds %p", (member) => {
  expect(mutableFields(`export class Device {\n${member}\n}\n`).length).toBe(1);
  const inside = member.replaceAll("\n", "\n  ");
  expect(mutableFields(`function f() {\n  return class {\n  ${inside}\n  };\n}\n`).length).toBe(1);
});

test.each([
  "  readonly count = 0;",
  "  readonly #count = 0;",
  "  private static readonly count: number = 1;",
  "  get count(): number {\n    return 1;\n  }",
  "  set count(value: number) {}",
  "  read(offset: number, size = 1): number {\n    let count = 0;\n    return count;\n  }",
  "  constructor(readonly a: number, count: number) {}",
  "  constructor(\n    readonly a: number,\n    private readonly b = 1,\n  ) {}",
  "  async *[Symbol.asyncIterator](): AsyncGenerator {}",
])("lets %p pass", (member) => {
  expect(mutableFields(`export class Device {\n${member}\n}\nlet after: number;\n`)).toEqual([]);
});
