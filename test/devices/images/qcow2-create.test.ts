/** A fresh overlay, as qemu-img reads it. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ImageError } from "../../../src/devices/images/image-error.ts";
import { overlayImage } from "../../../src/devices/images/qcow2/create.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-overlay-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const run = (...command: string[]) => {
  const { stdout, stderr, exitCode } = Bun.spawnSync(command);
  return { out: stdout.toString(), err: stderr.toString(), exitCode };
};
const raw = join(folder, "base: of äll, raw");
writeFileSync(raw, Buffer.alloc(1_000_000, "chv"));
const qcow2 = join(folder, "base.qcow2");
run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2);

describe.each([
  ["raw", raw, 1_000_448],
  ["qcow2", qcow2, 20 * 2 ** 30],
  ["raw", raw, 40 * 2 ** 40],
] as const)("over a %s image", (format, path, bytes) => {
  const overlay = join(folder, `${format}-${bytes}.qcow2`);
  writeFileSync(overlay, overlayImage({ bytes, backing: { path, format } }));

  test("it has the size asked for and names what it lies on", () => {
    const { out, err } = run("qemu-img", "info", "--output=json", overlay);
    const { "virtual-size": size, ...info } = JSON.parse(out);

    expect(err).toBe("");
    expect(size).toBe(bytes);
    expect(info["full-backing-filename"]).toBe(path);
    expect(info["backing-filename-format"]).toBe(format);
    expect(info["format-specific"].data).toMatchObject({ compat: "1.1", corrupt: false });
  });

  test("its refcounts are right, and it can be written", () => {
    expect(run("qemu-img", "check", overlay)).toMatchObject({ err: "", exitCode: 0 });
    const { exitCode } = run("qemu-io", "-c", `write -P 7 ${bytes - 65536} 64k`, overlay);
    expect(exitCode).toBe(0);
    expect(run("qemu-img", "check", overlay)).toMatchObject({ err: "", exitCode: 0 });
  });

  test("it shows what lies below", () => {
    const start = join(folder, "start");
    run("qemu-img", "dd", "-O", "raw", "bs=512", "count=900", `if=${overlay}`, `of=${start}`);

    expect(readFileSync(start).equals(readFileSync(raw).subarray(0, 900 * 512))).toBe(true);
  });
});

test("what its header cannot say is refused", () => {
  const backing = { path: `/${"a".repeat(1023)}`, format: "raw" } as const;
  expect(() => overlayImage({ bytes: 512, backing })).toThrow(ImageError);
  expect(() => overlayImage({ bytes: 2 ** 52, backing: { path: "/a", format: "raw" } })).toThrow(
    /too large/,
  );
});
