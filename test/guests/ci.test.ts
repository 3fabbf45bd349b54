/** The scripts of docs/ci.md, as they stand there: `chv` is this one with a small guest for a kernel. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildGuest } from "./build.ts";
import { chvCommand, guestTimeoutMs } from "./harness.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-ci-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const page = readFileSync(join(import.meta.dir, "../../docs/ci.md"), "utf8");
const scripts = [...page.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, script]) => script!);
const image = join(folder, "image");

beforeAll(async () => {
  const kernel = await buildGuest("virtio-console");
  const program = (await chvCommand()).map((word) => `'${word}'`).join(" ");
  mkdirSync(join(folder, "bin"));
  const lines = [
    "#!/bin/bash",
    `words='console=ttyS0 test=run-agent nth=1 say=box_login:'`,
    `exec ${program} run "$2" --kernel '${kernel}' --cmdline "$words" "\${@:3}"`,
  ];
  writeFileSync(join(folder, "bin/chv"), `${lines.join("\n")}\n`, { mode: 0o755 });
  writeFileSync(image, "");
  truncateSync(image, 2 ** 20);
}, guestTimeoutMs);

function run(script: string) {
  const work = mkdtempSync(join(folder, "work-"));
  writeFileSync(join(work, "run-tests"), "");
  const { exitCode, stdout, stderr } = Bun.spawnSync(["sh", "-c", script], {
    cwd: work,
    env: { ...process.env, IMAGE: image, PATH: `${join(folder, "bin")}:${process.env.PATH}` },
  });
  const file = (name: string) => readFileSync(join(work, name), "utf8");
  return { exitCode, stdout: stdout.toString(), stderr: stderr.toString(), file };
}

test("there are three", () => {
  expect(scripts).toHaveLength(3);
});

test(
  "tests in a machine",
  () => {
    const { exitCode, stdout, file } = run(scripts[0]!);

    expect([exitCode, stdout]).toEqual([0, 'status 0:  "reason": "command",\n']);
    expect(file("out/junit.xml")).toContain('failures="0"');
    expect(file("out/console.log")).toContain("serial: box login:");
  },
  guestTimeoutMs,
);

test(
  "what comes out of the guest",
  () => {
    expect(run(scripts[1]!)).toMatchObject({ exitCode: 0, stderr: "" });
  },
  guestTimeoutMs,
);

test(
  "a boot as far as the login prompt",
  () => {
    const { exitCode, file } = run(scripts[2]!);

    expect(exitCode).toBe(0);
    expect(JSON.parse(file("boot.json"))).toMatchObject({ reason: "expected", status: 0 });
  },
  guestTimeoutMs,
);
