/** What takes its time in `chv run`: readers that do, much output, and a guest that never says a word. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildGuest } from "../build.ts";
import { chvCommand } from "../harness.ts";
import { StreamingRun } from "../run-streams.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-run-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const image = join(folder, "image");
let program: readonly string[] = [];
const limitMs = 900_000;

beforeAll(async () => {
  writeFileSync(image, "");
  truncateSync(image, 2 ** 20);
  const kernel = await buildGuest("virtio-console");
  program = [...(await chvCommand()), "run", image, "--memory", "64M", "--kernel", kernel];
}, limitMs);

const words = (more: string) => ["--cmdline", `console=ttyS0 test=run-agent nth=1 ${more}`];

test(
  "a reader that takes longer than the machine's farewell loses nothing",
  async () => {
    const bytes = 160_000; // more than a pipe holds, and the guest need not wait for it to be taken
    const command = [...program, ...words(""), "--", "pour", String(bytes)];
    const quoted = command.map((word) => `'${word}'`).join(" ");
    const script = `{ ${quoted}; echo $? >${folder}/status; } | { sleep 8; wc -c; }`;
    const child = Bun.spawn(["bash", "-c", script], { stdin: "ignore", stdout: "pipe" });

    expect((await child.stdout.text()).trim()).toBe(String(bytes));
    expect(readFileSync(join(folder, "status"), "utf8")).toBe("0\n");
  },
  limitMs,
);

test.each(["slow", "input"] as const)(
  "1 GiB passes (%s), and chv stays as small as it was",
  async (way) => {
    const streaming = new StreamingRun();
    try {
      await (way === "slow" ? streaming.pours(2 ** 30, "slow") : streaming.drains(2 ** 30));
    } finally {
      rmSync(streaming.folder, { recursive: true, force: true });
    }
  },
  limitMs,
);

test(
  "a guest that asks for a login and starts no runner has no cloud-init",
  async () => {
    const silent = words("say=box_login: first=hang");
    const child = Bun.spawn([...program, ...silent, "--", "true"], {
      ...{ stdin: "ignore", stderr: "pipe" },
    });

    expect(await child.exited).toBe(243);
    expect(await child.stderr.text()).toBe(
      "chv: no word of the runner 30 s after the login prompt: the image has no cloud-init, or it is turned off\n",
    );
  },
  limitMs,
);
