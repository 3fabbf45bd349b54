/** What lies behind guest RAM, as the kernel tells it in /proc; and that a failure leaves nothing. */
import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError } from "../../src/exit-codes.ts";
import { copyFrom, copyTo } from "../../src/ffi/memory.ts";
import { type BackingOptions, createBacking } from "../../src/machine/ram-backing.ts";
import { leftOpen, mappingsOf, openFiles, virtualKiB, vmFlags } from "./proc.ts";

const MiB = 2 ** 20;
const size = 6 * MiB;
const plain: BackingOptions = {
  size,
  shared: false,
  hugepages: false,
  mergeable: false,
  prefault: false,
  thp: true,
};
const work = mkdtempSync(join(tmpdir(), "chv-ram-"));
afterAll(() => rmSync(work, { recursive: true }));

/** Maps, looks, unmaps; expects that nothing is left. */
function withBacking<T>(
  options: Partial<BackingOptions>,
  look: (address: number, fd: number) => T,
): T {
  const files = openFiles();
  const backing = createBacking({ ...plain, ...options });
  const result = look(backing.address, backing.fd);
  expect(backing.address % (2 * MiB)).toBe(0);
  backing.close();
  expect(mappingsOf(backing.address, size)).toEqual([]);
  expect(leftOpen(files)).toEqual([]);
  return result;
}

/** The one line of a failure, after which nothing is left. */
function failure(options: Partial<BackingOptions>): string {
  const files = openFiles();
  const before = virtualKiB();
  const huge = 2 ** 36; // far above what the runtime maps meanwhile
  let message = "";
  try {
    createBacking({ ...plain, size: huge, ...options }).close();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    message = (error as Error).message;
  }
  expect(leftOpen(files)).toEqual([]);
  expect(virtualKiB() - before).toBeLessThan(huge / 1024 / 2);
  return message;
}

test("by default RAM is private anonymous memory, zeroed, writable to the last byte", () => {
  withBacking({}, (address, fd) => {
    expect(fd).toBe(-1);
    const lines = mappingsOf(address, size);
    for (const line of lines) expect(line).toMatch(/ rw-p 00000000 00:00 0 *$/);
    expect(copyFrom(address + size - 4, 4)).toEqual(new Uint8Array(4));
    copyTo(address + size - 4, new Uint8Array([1, 2, 3, 4]));
    expect(copyFrom(address + size - 4, 4)).toEqual(new Uint8Array([1, 2, 3, 4]));
    expect(vmFlags(address)).toContain("dd"); // not in a core dump
  });
});

test("only its own size is mapped, whatever the alignment cost", () => {
  withBacking({}, (address) => {
    const mapped = mappingsOf(address, size).map((line) => line.split(" ")[0]!.split("-"));
    const [from, to] = [mapped[0]![0], mapped.at(-1)![1]];
    const before = mappingsOf(address - 4096, 4096);
    expect(Number.parseInt(from!, 16)).toBeLessThanOrEqual(address);
    expect(Number.parseInt(to!, 16)).toBeGreaterThanOrEqual(address + size);
    expect(before.filter((line) => / ---p /.test(line))).toEqual([]);
    expect(mappingsOf(address + size, 4096).filter((line) => / ---p /.test(line))).toEqual([]);
  });
});

test("thp decides between the advice for and against huge pages, behind the first 2 MiB", () => {
  const behind = (address: number) => vmFlags(address + 2 * MiB);
  const [on, off] = [true, false].map((thp) => withBacking({ thp }, behind));
  const first = withBacking({}, vmFlags);
  expect([first.includes("hg"), first.includes("nh")]).toEqual([false, true]);

  expect([on!.includes("hg"), on!.includes("nh")]).toEqual([true, false]);
  expect([off!.includes("hg"), off!.includes("nh")]).toEqual([false, true]);
});

test("mergeable=on offers the pages to KSM", () => {
  expect(withBacking({ mergeable: true }, vmFlags)).toContain("mg");
  expect(withBacking({}, vmFlags)).not.toContain("mg");
});

test("prefault=on takes every page at once", () => {
  const rss = (address: number) => {
    const smaps = readFileSync("/proc/self/smaps", "utf8");
    let kiB = 0;
    for (const line of mappingsOf(address, size)) {
      const range = line.split(" ")[0];
      kiB += Number(new RegExp(`^${range} [^]*?^Rss:\\s+(\\d+) kB`, "m").exec(smaps)![1]);
    }
    return kiB;
  };

  expect(withBacking({ prefault: true }, rss)).toBeGreaterThanOrEqual(size / 1024);
  expect(withBacking({}, rss)).toBe(0);
});

test("shared=on is a memfd of the RAM's size that others can map", () => {
  withBacking({ shared: true }, (address, fd) => {
    expect(mappingsOf(address, size)[0]).toMatch(/ rw-s .*\/memfd:chv-ram \(deleted\)$/);
    copyTo(address + 5, new Uint8Array([42]));
    const through = `/proc/self/fd/${fd}`;
    expect(statSync(through).size).toBe(size);
    expect(readFileSync(through)[5]).toBe(42);
  });
});

test("file=DIRECTORY makes a file there that has no name", () => {
  withBacking({ file: work, shared: true }, (address, fd) => {
    expect(readdirSync(work)).toEqual([]);
    expect(statSync(`/proc/self/fd/${fd}`).size).toBe(size);
    expect(mappingsOf(address, size)[0]).toContain(`${work}/`);
    expect(mappingsOf(address, size)[0]).toMatch(/ rw-s .*\(deleted\)$/);
  });
  expect(readdirSync(work)).toEqual([]);
});

test("file=FILE is made and sized, and keeps what the guest wrote", () => {
  const file = join(work, "ram");
  withBacking({ file, shared: true }, (address) => copyTo(address, new Uint8Array([7])));

  expect(statSync(file).size).toBe(size);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(readFileSync(file)[0]).toBe(7);

  withBacking({ file, shared: false }, (address) => {
    expect(copyFrom(address, 1)).toEqual(new Uint8Array([7]));
    copyTo(address, new Uint8Array([8]));
  });
  expect(readFileSync(file)[0]).toBe(7); // a private mapping
  rmSync(file);
});

test("huge pages that the host does not have fail in one line, now and not later", () => {
  const line =
    /^--memory: cannot map 65536 MiB: out of memory; reserve huge pages \(sysctl vm\.nr_hugepages\) or drop hugepages=on$/;

  expect(failure({ hugepages: true })).toMatch(line);
  expect(failure({ hugepages: true, shared: true })).toMatch(line);
});

test("a file that cannot be is named, and why", () => {
  const where = "name a directory or file that this user may write, with room for it";

  expect(failure({ file: "/proc/nothing/here" })).toBe(
    `--memory: cannot map /proc/nothing/here: no such file or directory; ${where}`,
  );
  // a file that opens but cannot be sized: the descriptor must not stay
  expect(failure({ file: "/dev/null" })).toBe(`--memory: cannot map /dev/null: EINVAL; ${where}`);
  expect(existsSync("/proc/nothing")).toBe(false);
});

test("more than the address space fails in one line", () => {
  const size = 2 ** 48;
  const fix = "ask for less, or free memory";

  expect(failure({ size })).toBe(`--memory: cannot map 268435456 MiB: out of memory; ${fix}`);
  expect(failure({ size: 2 ** 47 - 2 ** 22, shared: true })).toContain("cannot map");
});
