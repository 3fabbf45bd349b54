/** What cannot be booted: one line on standard error, and the exit code of docs/exit-codes.md. */

import { afterAll, describe, expect, test } from "bun:test";
import { accessSync, constants, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cache, kernelFile, root } from "../lab/paths.ts";
import { labRun } from "../lab/run.ts";
import { quote } from "./guest.ts";

const folder = `${cache}/e2e/errors-${process.pid}`;
mkdirSync(folder, { recursive: true });
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** No guest gets to run here, so that any /dev/kvm will do; it is quicker than the lab's. */
const anyKvm = (() => {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
})();

/** A bash command's status and what it wrote to standard error. */
async function run(command: string): Promise<{ code: number; stderr: string }> {
  const script = `{ ${command}\n} 2>&1 >/dev/null </dev/null`;
  if (!anyKvm) {
    const { code, output } = await labRun(script);
    return { code, stderr: output };
  }
  const child = Bun.spawn(["timeout", "60", "bash", "-c", script], { cwd: root });
  return { stderr: await child.stdout.text(), code: await child.exited };
}

const arguments_ = (...words: string[]) => {
  const serial = words.includes("--serial") ? [] : ["--serial", "null"];
  return [...words, ...serial, "--console", "off"].map(quote).join(" ");
};
const chv = (...words: string[]) => run(`dist/chv ${arguments_(...words)}`);

function file(name: string, bytes: Uint8Array | string): string {
  const path = `${folder}/${name}`;
  writeFileSync(path, bytes);
  return path;
}

/** One line that names what is meant, says why, and after a semicolon what to do. */
function expectLine(stderr: string, what: string, why: string): void {
  expect(stderr).toMatch(/^chv: [^\n]+; [^\n]+\n$/);
  expect(stderr).toContain(what);
  expect(stderr).toContain(why);
}

const kernel = kernelFile("6.12-cloud", "vmlinuz");
const [noKvm, configuration] = [241, 242];

describe("a kernel that cannot be booted", () => {
  test("a text file", async () => {
    const path = file("notes.txt", "This is not a kernel.\n".repeat(100));
    const { code, stderr } = await chv("--kernel", path);
    expectLine(stderr, path, "neither a bzImage nor an ELF file");
    expect(code).toBe(configuration);
  });

  test("an empty file", async () => {
    const path = file("empty", "");
    const { code, stderr } = await chv("--kernel", path);
    expectLine(stderr, path, "neither a bzImage nor an ELF file");
    expect(code).toBe(configuration);
  });

  test("half a bzImage, by either entry", async () => {
    const path = file("half", readFileSync(kernel).subarray(0, 5_000_000));
    for (const entry of ["direct", "bzimage"]) {
      const { code, stderr } = await chv("--kernel", path, "--kernel-entry", entry);
      expectLine(stderr, path, "the file has 5000000 bytes");
      expect(code).toBe(configuration);
    }
  });

  test("a bzImage whose payload is damaged", async () => {
    const bytes = readFileSync(kernel);
    const path = file("damaged", bytes.fill(0, 4_000_000, 4_100_000));
    const { code, stderr } = await chv("--kernel", path, "--kernel-entry", "direct");
    expectLine(stderr, path, "payload is damaged");
    expect(code).toBe(configuration);
  });

  test("an ELF program of this machine", async () => {
    const { code, stderr } = await chv("--kernel", "/bin/true");
    expectLine(stderr, "/bin/true", "does not lie in free guest RAM");
    expect(code).toBe(configuration);
  });

  test("an ELF for another machine", async () => {
    const bytes = readFileSync("/bin/true");
    bytes.writeUInt16LE(183, 18); // e_machine: EM_AARCH64
    const path = file("aarch64", bytes);
    const { code, stderr } = await chv("--kernel", path);
    expectLine(stderr, path, "it is for another machine (ELF e_machine 183)");
    expect(code).toBe(configuration);
  });
});

describe("files", () => {
  test("no such kernel, no such initramfs", async () => {
    const missing = `${folder}/missing`;
    const first = await chv("--kernel", missing);
    expectLine(first.stderr, `--kernel ${missing}`, "no such file");
    expect(first.code).toBe(configuration);

    const second = await chv("--kernel", kernel, "--initramfs", missing);
    expectLine(second.stderr, `--initramfs ${missing}`, "no such file");
    expect(second.code).toBe(configuration);
  });

  test("a folder in the kernel's place", async () => {
    const { code, stderr } = await chv("--kernel", folder);
    expectLine(stderr, `--kernel ${folder}`, "not a regular file");
    expect(code).toBe(configuration);
  });

  test("half a vmlinux", async () => {
    const path = file(
      "half-elf",
      readFileSync(kernelFile("6.12-cloud", "vmlinux")).subarray(0, 5_000_000),
    );
    const { code, stderr } = await chv("--kernel", path);
    expectLine(stderr, path, "the file has 5000000 bytes");
    expect(code).toBe(configuration);
  });

  test("a serial socket in a folder that is not there", async () => {
    const { code, stderr } = await chv("--kernel", kernel, "--serial", `socket=${folder}/no/such`);
    expectLine(stderr, `--serial ${folder}/no/such`, "no such file");
    expect(code).toBe(configuration);
  });
});

describe("/dev/kvm", () => {
  // A file that nobody may open stands in for the device, in a mount namespace of the command's
  // own, and the command has no capability to open it all the same.
  const hidden = (stand: string, mode: string) => `
    unshare ${process.getuid?.() === 0 ? "-m" : "-Urm"} bash -c '
      stand=$(mktemp) && chmod ${mode} "$stand" && mount --bind ${stand} /dev/kvm && rm -f "$stand"
      exec setpriv --bounding-set=-all --inh-caps=-all "$@"
    ' - dist/chv ${arguments_("--kernel", kernel)}`;

  test("no permission", async () => {
    const { code, stderr } = await run(hidden('"$stand"', "000"));
    expectLine(stderr, "/dev/kvm", "permission denied");
    expect(code).toBe(noKvm);
  });

  test("something that is not KVM", async () => {
    const { code, stderr } = await run(hidden("/dev/null", "000"));
    expectLine(stderr, "/dev/kvm", "not KVM");
    expect(code).toBe(noKvm);
  });
});
