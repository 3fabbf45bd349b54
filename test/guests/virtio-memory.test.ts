/** The balloon and persistent memory, driven by a guest of their own: test/guests/virtio-memory. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  expectOk,
  guestTests,
  guestTimeoutMs,
  runSuite,
  startGuest,
  transports,
} from "./harness.ts";
import { runSuiteOnQemu } from "./qemu.ts";

const MiB = 2 ** 20;
const guest = "virtio-memory";
const folder = mkdtempSync(join(tmpdir(), "chv-memory-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let files = 0;
function file(content: string, bytes: number): string {
  const path = join(folder, `file${files++}`);
  writeFileSync(path, content);
  truncateSync(path, bytes);
  return path;
}

for (const transport of transports) {
  describe(`a balloon on ${transport}`, () => {
    const inflating = { guest, transport, cmdline: "pages=4096", args: ["--balloon", "size=16M"] };
    guestTests(["balloon-inflate"], inflating);
    guestTests(["balloon-features"], {
      ...{ guest, transport, cmdline: "oom=on" },
      args: ["--balloon", "size=0,deflate_on_oom=on"],
    });
    guestTests(["balloon-reporting"], {
      ...{ guest, transport, args: ["--balloon", "size=0,free_page_reporting=on"] },
    });
  });

  describe(`persistent memory on ${transport}`, () => {
    const path = file("from the host", 4 * MiB);
    guestTests(["pmem-memory", "pmem-refuses"], {
      ...{ guest, transport, cmdline: `size=${4 * MiB}`, args: ["--pmem", `file=${path}`] },
    });

    test("what the guest wrote is in the file", () => {
      const bytes = readFileSync(path);
      expect(bytes.subarray(-14).toString()).toBe("from the guest");
      expect(bytes.subarray(0, 13).toString()).toBe("from the host");
    });

    const discarded = file("from the host", 4 * MiB);
    guestTests(["pmem-memory"], {
      ...{ guest, transport, cmdline: `size=${4 * MiB}` },
      args: ["--pmem", `file=${discarded},discard_writes=on`],
    });

    test("with discard_writes=on it is not", () => {
      expect(readFileSync(discarded).subarray(-14)).toEqual(Buffer.alloc(14));
    });

    const sector = `s${"-".repeat(510)}r`;
    guestTests(["pmem-dma"], {
      ...{ guest, transport },
      args: [
        ...["--pmem", `file=${file("", 2 * MiB)}`],
        ...["--disk", `path=${file("".padEnd(512) + sector, 64 * 1024)}`],
      ],
    });
  });
}

describe("QEMU's devices", () => {
  const onQemu = async (
    machine: "mmio" | "q35",
    names: string,
    cmdline: string,
    args: readonly string[],
  ) => {
    const { stdout } = await runSuiteOnQemu(machine, names, { guest, cmdline, args });
    const passed = [...stdout.matchAll(/(?:not )?ok [^\r\n]*/g)].map(([line]) => line);
    expect(passed).toEqual(names.split(",").map((name) => `ok ${name}`));
  };

  test(
    "are found right: a balloon, inflated and with all queues",
    async () => {
      const balloon = "virtio-balloon-device";
      const words = "transport=mmio pages=0";
      await onQemu("mmio", "balloon-inflate,balloon-nowhere", words, ["-device", balloon]);
      const all = `${balloon},free-page-reporting=on,free-page-hint=on,iothread=one`;
      const args = ["-object", "iothread,id=one", "-device", all];
      await onQemu("mmio", "balloon-reporting", words, args);
    },
    guestTimeoutMs,
  );

  test(
    "are found right: persistent memory",
    async () => {
      const path = file("from the host", 4 * MiB);
      const backend = `memory-backend-file,id=file,mem-path=${path},size=4M,share=on`;
      await onQemu("q35", "pmem-memory", `size=${4 * MiB}`, [
        ...["-m", "64,maxmem=1G,slots=2", "-object", backend],
        ...["-device", "virtio-pmem-pci,memdev=file,disable-legacy=on"],
      ]);
      expect(readFileSync(path).subarray(-14).toString()).toBe("from the guest");
    },
    guestTimeoutMs,
  );
});

test(
  "pages that are no RAM are told of once",
  async () => {
    const run = await runSuite("balloon-nowhere", { guest, args: ["--balloon", "size=0"] });
    expect(run.stderr.match(/page \d+ is not RAM; it is left alone/g)?.length).toBe(1);
    expectOk("balloon-nowhere", { ...run, stderr: "" });
  },
  guestTimeoutMs,
);

test(
  "rings in persistent memory cost the guest the device, until it resets it",
  async () => {
    const args = ["--pmem", `file=${folder},size=2M`];
    const run = await runSuite("pmem-no-rings", { guest, args });
    expect(run.stderr).toContain("_pmem0: the driver broke its queue: the descriptor table");
    expectOk("pmem-no-rings", { ...run, stderr: "" });
  },
  guestTimeoutMs,
);

describe("a file that is cut short under the guest", () => {
  const cut = async (name: string, bytes: number) => {
    const path = file("", 4 * MiB);
    await using running = await startGuest({
      ...{ guest, cmdline: `test=${name}`, args: ["--pmem", `file=${path}`] },
    });
    await running.until("ready\n");
    truncateSync(path, bytes);
    await running.input("\n");
    return { path, ...(await running.finish()) };
  };
  const expectEnd = ({ path, exitCode, stderr }: Awaited<ReturnType<typeof cut>>) => {
    expect(exitCode).toBe(243);
    expect(stderr).toContain(`--pmem ${path}: the file was cut short under the guest; vcpu0: the`);
    expect(stderr.trim().split("\n").length).toBe(1);
  };

  test(
    "ends it with a line that names the file",
    async () => {
      expectEnd(await cut("pmem-gone-user", MiB));
    },
    guestTimeoutMs,
  );

  test(
    "ends a kernel the same way; where KVM emulates it, nobody answers at that address",
    async () => {
      const run = await cut("pmem-gone", 2 * MiB);
      if (!run.stdout.includes("note written")) return expectEnd(run);
      expect(run.stdout).toContain("note read 255");
      expect(run.exitCode).toBe(0);
    },
    guestTimeoutMs,
  );
});
