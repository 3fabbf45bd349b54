// biome-ignore-all lint/suspicious/noTemplateCurlyInString: this is how the language that is tested writes variables
/**
 * GRUB's script language: what each script prints, as GRUB itself did (2.06, by grub-emu). Then what chv refuses, with its
 * line, and that scripts which never end are ended.
 */
import { describe, expect, test } from "bun:test";
import { DiskError } from "../../../src/firmware/disk/medium.ts";
import { soon } from "../../processor-time.ts";
import { randomScripts, run } from "./scripts.ts";

test.each<[string, boolean]>([
  ["= 1", true],
  ["a", true],
  ['""', false],
  ["a = a", true],
  ["a = b", false],
  ['"" = ""', true],
  ["x$u = x", true],
  ['-z ""', true],
  ['-n ""', false],
  ['-n a -a -z ""', true],
  ["! a", false],
  ['! ""', true],
  ["! a = b", true],
  ['a -o ""', true],
  ['"" -o ""', false],
  ['"" -o a', true],
  ['a -a ""', false],
  ['"" -a a -o b', true],
  ["1 -lt 2", true],
  ["10 -gt 9", true],
  ["2.12 -pgt 2.06", true],
  ["x10 -pgt x9", true],
  ["( a = a )", true],
  ["( a = b ) -o ( c = c )", true],
  ["! ( a = b )", true],
  ["a b", true],
  ['a ""', false],
  ['"" a', false],
  ["a != b -a c = c", true],
  ["1 -eq 01", true],
  ["1 -ne 2 -o a = b", true],
  ["-z $u", true],
  ["-n $u", true],
  ['"$u" = 1', false],
  ["${u} != 1", true],
  ["-e /nonexist", false],
  ["-f /nonexist", false],
  ["-d /nonexist", false],
  ["-s /nonexist", false],
  ["! -e /nonexist", true],
  ["a = a -a b = c -o d = d", true],
  ["a == a", true],
  ['-n "$u" -o a', true],
  ["! a -o b", true],
  ['! "" -a a', true],
])("[ %s ] is %p", (expression, holds) => {
  expect(run(`if [ ${expression} ]; then echo true; else echo false; fi`)).toBe(`${holds}`);
});

test.each<[string, string]>([
  ['for i in a "b c" $u "$u" d; do echo "<$i>"; done', "<a>\n<b c>\n<>\n<d>"],
  [
    'a="1 2"; b=3; for i in $a$b x$a "x$a y"; do echo "<$i>"; done',
    "<1>\n<23>\n<x1>\n<2>\n<x1 2 y>",
  ],
  ['function f { echo "$# $1 $2 $3"; shift; echo "$# $1"; }; f a "b c" d', "3 a b c d\n2 b c"],
  [
    'function g { for i in "$@"; do echo "<$i>"; done; for i in $@; do echo "[$i]"; done; for i in "$*"; do echo "{$i}"; done; }; g a "b c"',
    "<a>\n<b c>\n[a]\n[b]\n[c]\n{a b c}",
  ],
  ["function h { return 1; echo never; }; h; echo $?; if h; then echo t; else echo f; fi", "1\nf"],
  ["function h2 { true; }; h2; echo $?; false; echo $?; echo $?", "0\n1\n0"],
  [
    'i=0; while [ "$i" != 3 ]; do if [ "$i" = 0 ]; then i=1; elif [ "$i" = 1 ]; then i=2; continue; else i=3; fi; echo $i; done',
    "1\n3",
  ],
  ["for i in a b c; do if [ $i = b ]; then break; fi; echo $i; done; echo after", "a\nafter"],
  ['until [ "$z" = x ]; do z=x; echo once; done', "once"],
  [
    "for i in a b; do for j in c d; do if [ $j = d ]; then continue; fi; echo $i$j; done; done",
    "ac\nbc",
  ],
  ['set x=1; set x=; echo "<$x>"; unset x; echo "<$x>"', "<>\n<>"],
  ['set x="a=b c"; echo $x; echo "${x}y" ${x}y', "a=b c\na=b cy a=b cy"],
  ["echo 'a $b \\ \"' \"it's\" a'b'\"c\"d", "a $b \\ \" it's abcd"],
  ["echo a#b #comment\necho c", "a#b\nc"],
  ["echo a \\\n b", "a b"],
  ['echo "a\\\nb"', "ab"],
  ["echo \\$x \\\" \\' \\\\ a\\;b", "$x \" ' \\ a;b"],
  ["if true; then\n\n  echo t\n\nfi", "t"],
  ["if false; then echo a; elif true; then echo b; else echo c; fi; echo d", "b\nd"],
  ["if false; then echo a; fi; echo $?", "0"],
  ["if ! false; then echo t; fi; ! true; echo $?", "t\n1"],
  ["v=1; function s { v=2; }; s; echo $v", "2"],
  ['function s3 { echo "a"; return; echo b; }; s3 ; echo $?', "a\n0"],
  ['set root="(hd0,gpt1)"; echo $root', "hd0,gpt1"],
  ["x='a;b{c}'; echo $x \"$x\"", "a;b{c} a;b{c}"],
  ["echo ${u}${u} x", "x"],
  ["cmd=echo; $cmd hi", "hi"],
  ["$u echo hi", "hi"],
  ['a=b=c; echo $a; "c=d"; echo $c', "b=c\nd"],
  ['eval "echo ev a; x9=5"; echo $x9', "ev a\n5"],
  ["echo y", "y"],
  ["function f1 { echo one; }; function f1 { echo two; }; f1", "two"],
  ['q="a\\"b"; echo "$q"; echo $"tr \\"x"', 'a"b\ntr "x'],
  ['w="\\$HOME \\a"; echo "$w"', "$HOME \\a"],
  ["n='line1\nline2'; echo \"$n\"", "line1\nline2"],
  ['set default="${saved_entry}"; echo "<$default>"', "<>"],
  ['if [ "${next_entry}" ] ; then echo n; else echo d; fi', "d"],
  ['menuentry_id_option="--id"; export menuentry_id_option; echo $menuentry_id_option x', "--id x"],
  [
    "if [ x$feature_platform_search_hint = xy ]; then echo y; else echo n; fi; echo $feature_timeout_style $feature_menuentry_id",
    "y\ny y",
  ],
])("%s", (script, said) => {
  expect(run(script)).toBe(said);
});

describe("what chv does not know is named with its line", () => {
  test.each<[string, string]>([
    ["true\nfrobnicate x", 'grub.cfg:2: chv does not know the command "frobnicate"'],
    [
      "if true; then\n echo\n",
      'grub.cfg:3: end of the file where "fi" should stand (opened in line 1)',
    ],
    ["echo a | cat", "grub.cfg:1: chv does not know what | means in a grub.cfg"],
    ["\n\ncase x in", 'grub.cfg:3: "case" where a command should stand'],
    ["echo 'a\nb", "grub.cfg:1: a ' that is not closed"],
    ['x="\n\n', 'grub.cfg:1: a " that is not closed'],
    ["echo $", "grub.cfg:1: a $ without a variable's name"],
    ["echo ${a", "grub.cfg:1: a $ and { without a variable's name and }"],
    ["}", "grub.cfg:1: a } that closes nothing"],
    ["function f {\n true", "grub.cfg:1: a { that is not closed"],
    ["fi", 'grub.cfg:1: "fi" where a command should stand'],
    ["[ a = b", "grub.cfg:1: a [ without ]"],
    ["[ a -nt b ]", "grub.cfg:1: chv does not know test -nt"],
    ["menuentry x", "grub.cfg:1: a menuentry without { }"],
    ["menuentry --frob x { }", "grub.cfg:1: chv does not know menuentry --frob"],
    ["search --frob x", "grub.cfg:1: chv does not know search --frob"],
    ["initrdx {\n}", 'grub.cfg:1: chv does not know the command "initrdx" with { }'],
    ["break 2", "grub.cfg:1: chv does not know break 2"],
    ["set x", 'grub.cfg:1: chv does not know "set x"'],
    [
      "echo /a*\ninsmod regexp\necho /a*",
      "grub.cfg:3: chv does not look for files by patterns: /a*",
    ],
  ])("%j", (script, message) => {
    expect(() => run(script)).toThrow(new DiskError(message));
  });
});

test.each([
  "while true; do true; done",
  "function f { f; }; f",
  "x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done",
  "function f { for i in $1 $1; do f $i$i; done; }; f a",
  "until false; do menuentry x { }; done",
  `${"if true; then ".repeat(200)}`,
  `eval ${"eval ".repeat(300)} true`,
])("a script that never ends, or grows, is ended: %s", (script) => {
  soon(() => expect(() => run(script)).toThrow(DiskError));
});

test("whatever the script is, it ends, in a result or an error of a line", () => {
  randomScripts(2000);
}, 120_000);
