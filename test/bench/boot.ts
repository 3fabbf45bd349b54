/**
 * `./dev bench boot [--login[=VMM]]`: from the start of chv to the guest's first instruction, with a cloud image that names its
 * own kernel; with `--login`, to the login prompt, against QEMU (login.ts).
 */
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monotonicNs } from "../../src/ffi/clock.ts";
import { chvCommand } from "../guests/harness.ts";
import { run } from "../images/disk.ts";
import { writeSmall } from "../images/small.ts";
import { cache, kernelFile } from "../lab/paths.ts";
import { loginRows } from "./login.ts";
import { report, row } from "./report.ts";

const warmRuns = 15;
const coldRuns = 7;
const bulkFiles = 13;
const bulkMiB = 50;
const boundMs = 20_000;

/** As large as a server's image: a kernel packed by zstd, Debian's initramfs, and much that does not shrink. */
function largeImage(): string {
  const file = `${cache}/bench/boot.img`;
  if (existsSync(file)) return file;
  console.error("bench: making an image of 700 MB");
  const noise = () => {
    const bytes = new Uint8Array(bulkMiB * 2 ** 20);
    for (let at = 0; at < bytes.length; at += 65_536) {
      crypto.getRandomValues(bytes.subarray(at, at + 65_536)); // it takes no more at a time
    }
    return bytes;
  };
  const unfinished = `${file}.${process.pid}`;
  writeSmall(unfinished, "22.04", {
    ...{ kernel: kernelFile("6.12-cloud", "vmlinuz"), format: "zlib" },
    initramfs: `${cache}/images/tree/initrd.img`,
    files: Object.fromEntries(
      Array.from({ length: bulkFiles }, (_, index) => [`srv/noise-${index}`, noise()]),
    ),
  });
  renameSync(unfinished, file);
  return file;
}

interface Event {
  readonly event: string;
  readonly timestamp: { readonly secs: number; readonly nanos: number };
  readonly properties: { readonly monotonic_ns?: number } | null;
}

/** ms from before the process is started to vCPU 0's first entry; the guest is ended then. */
async function firstRun(words: readonly string[], events: string): Promise<number> {
  rmSync(events, { force: true });
  const startNs = monotonicNs();
  const machine = ["--memory", "size=1G", "--serial", "null", "--console", "off"];
  const child = Bun.spawn([...chv, ...words, ...machine, "--event-monitor", `path=${events}`], {
    stdin: "ignore",
  });
  try {
    while ((monotonicNs() - startNs) / 1e6 < boundMs) {
      await Bun.sleep(20);
      const lines = existsSync(events) ? readFileSync(events, "utf8").trim().split("\n") : [];
      const all = lines.filter(Boolean).map((line) => JSON.parse(line) as Event);
      const first = all.find(({ event }) => event === "first-run")?.timestamp;
      if (!first) continue;
      const startedNs = all.find(({ event }) => event === "starting")!.properties!.monotonic_ns!;
      return (startedNs + first.secs * 1e9 + first.nanos - startNs) / 1e6;
    }
    throw new Error("chv did not enter its guest");
  } finally {
    child.kill("SIGKILL");
    await child.exited;
  }
}

/** `--login`, or `--login=chv` for one of them alone. */
const wanted = process.argv.map((word) => /^--login(?:=(.+))?$/.exec(word)).find(Boolean);
const chv = await chvCommand();
const folder = mkdtempSync(join(tmpdir(), "chv-bench-"));
try {
  const image = largeImage();
  const events = join(folder, "events");
  const fromDisk = ["--disk", `path=${image},readonly=on`];
  const fromFiles = [
    ...["--kernel", kernelFile("6.12-cloud", "vmlinuz"), "--cmdline", "console=ttyS0"],
    ...["--initramfs", `${cache}/images/tree/initrd.img`],
  ];
  const [warm, files, cold]: number[][] = [[], [], []];
  await firstRun(fromDisk, events);
  for (let i = 0; i < warmRuns; i++) {
    warm!.push(await firstRun(fromDisk, events));
    files!.push(await firstRun(fromFiles, events));
  }
  for (let i = 0; i < coldRuns; i++) {
    run("dd", `if=${image}`, "iflag=nocache", "count=0", "status=none"); // the cache forgets the file
    cold!.push(await firstRun(fromDisk, events));
  }
  report("boot", [
    row("image of 700 MB to the first KVM_RUN ms", "ms", warm!),
    row("the same kernel and initramfs as files ms", "ms", files!),
    row("the image, not in the page cache ms", "ms", cold!),
    ...(wanted ? await loginRows(wanted[1] ?? "") : []),
  ]);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
