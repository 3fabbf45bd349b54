/** The scripts of docs/ci.md, as they stand there: `chv` is this one with a small guest for a kernel. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "yaml";
import { buildGuest } from "./build.ts";
import { chvCommand, guestTimeoutMs } from "./harness.ts";

const root = join(import.meta.dir, "../..");
const folder = mkdtempSync(join(tmpdir(), "chv-ci-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const page = readFileSync(join(root, "docs/ci.md"), "utf8");
const blocks = (kind: string): string[] =>
  [...page.matchAll(new RegExp(`^\`\`\`${kind}\\n(.*?)^\`\`\`$`, "gms"))].map(([, text]) => text!);
const scripts = blocks("sh");
const image = join(folder, "image");
/** The commands of what the test does not do: a network, another machine's rights. */
const away = /\b(?:sudo|curl)\b/;

beforeAll(async () => {
  const kernel = await buildGuest("virtio-console");
  const program = (await chvCommand()).map((word) => `'${word}'`).join(" ");
  mkdirSync(join(folder, "bin"));
  const lines = [
    "#!/bin/bash",
    `words='console=ttyS0 test=run-session nth=1 say=box_login:'`,
    `exec ${program} run "$2" --kernel '${kernel}' --cmdline "$words" "\${@:3}"`,
  ];
  writeFileSync(join(folder, "bin/chv"), `${lines.join("\n")}\n`, { mode: 0o755 });
  writeFileSync(image, "");
  truncateSync(image, 2 ** 20);
}, guestTimeoutMs);

/** A project's folder, and the script run in it. `files`: more that is there, by name. */
function run(words: readonly string[], files: Readonly<Record<string, string>> = {}) {
  const work = mkdtempSync(join(folder, "work-"));
  const all = { "run-tests": "#!/bin/sh\n", ...files };
  for (const [name, text] of Object.entries(all)) {
    writeFileSync(join(work, name), text, { mode: 0o755 });
  }
  const package_ = join(work, "node_modules/chv");
  mkdirSync(package_, { recursive: true });
  const sdk = JSON.stringify(join(root, "src/sdk/index.ts"));
  writeFileSync(join(package_, "index.ts"), `export * from ${sdk};\n`);
  const { exitCode, stdout, stderr } = Bun.spawnSync([...words], {
    cwd: work,
    env: {
      ...process.env,
      CHV: "",
      IMAGE: image,
      PATH: `${join(folder, "bin")}:${process.env.PATH}`,
    },
  });
  const file = (name: string) => readFileSync(join(work, name), "utf8");
  return { exitCode, stdout: stdout.toString(), stderr: stderr.toString(), file, work };
}

const shell = (script: string, files = {}) => run(["sh", "-c", script], files);

/** Names in an archive. */
const listed = (archive: string): string[] =>
  Bun.spawnSync(["tar", "tf", archive]).stdout.toString().trim().split("\n").toSorted();

test("all of the page's scripts are here", () => {
  expect([scripts.length, blocks("yaml").length, blocks("ts").length]).toEqual([4, 2, 1]);
  expect([...page.matchAll(/^```(\w*)$/gm)].filter(([, kind]) => kind !== "")).toHaveLength(7);
});

test(
  "tests in a machine",
  () => {
    const { exitCode, stdout, file } = shell(scripts[0]!);

    expect([exitCode, stdout]).toEqual([0, 'status 0:  "reason": "command",\n']);
    expect(file("out/junit.xml")).toContain('failures="0"');
    expect(file("out/console.log")).toContain("serial: box login:");
  },
  guestTimeoutMs,
);

describe.each(blocks("yaml").map((text, i) => [["GitHub Actions", "GitLab"][i]!, text] as const))(
  "%s",
  (_, text) => {
    const { jobs, vm } = parse(text);
    const steps: { run?: string }[] = jobs?.vm.steps ?? [];
    const commands: string[] = vm?.script ?? steps.flatMap(({ run }) => (run ? [run] : []));

    test("what it runs is shell", () => {
      for (const command of commands) {
        expect(Bun.spawnSync(["bash", "-n", "-c", command]).exitCode).toBe(0);
      }
      expect(commands.filter((command) => !away.test(command))).toHaveLength(1);
    });

    test(
      "its step runs the script",
      () => {
        const [command] = commands.filter((command) => !away.test(command));
        const { exitCode, stdout, file } = shell(command!, {
          "in-vm.sh": `#!/bin/sh\n${scripts[0]}`,
          "image.img": "\0".repeat(2 ** 16),
        });

        expect([exitCode, stdout]).toEqual([0, 'status 0:  "reason": "command",\n']);
        expect(file("out/junit.xml")).toContain('failures="0"');
      },
      guestTimeoutMs,
    );
  },
);

test(
  "an archive goes in, and one comes out",
  () => {
    const bytes = Array.from({ length: 50_000 }, (_, i) => `${i} ü\n`).join("");
    const { exitCode, stdout, file, work } = shell(scripts[1]!, { bytes });

    expect([exitCode, stdout]).toEqual([0, ""]);
    // this guest's archive is the one that it was given
    expect(listed(join(work, "built.tar"))).toContain("./run-tests");
    expect(file("built/bytes") === bytes).toBe(true);
  },
  guestTimeoutMs,
);

test(
  "what comes out of the guest",
  () => {
    const { exitCode, stderr, work } = shell(scripts[2]!);

    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(readdirSync(work)).toContain("logs.tar");
  },
  guestTimeoutMs,
);

test(
  "a boot as far as the login prompt",
  () => {
    const { exitCode, file } = shell(scripts[3]!);

    expect(exitCode).toBe(0);
    expect(JSON.parse(file("boot.json"))).toMatchObject({ reason: "expected", status: 0 });
  },
  guestTimeoutMs,
);

test(
  "several commands in one machine",
  () => {
    const [script] = blocks("ts");
    const { exitCode, stdout, stderr, work } = run([process.execPath, "in-vm.ts"], {
      "in-vm.ts": script!,
      file: "text\n",
    });

    expect([exitCode, stdout, stderr]).toEqual([0, "status 0\n", ""]);
    expect(listed(join(work, "built.tar"))).toEqual([
      ...["./", "./file", "./in-vm.ts", "./run-tests"],
    ]);
    expect(readFileSync(join(work, "console.log"), "utf8")).toContain("serial: box login:");
  },
  guestTimeoutMs,
);
