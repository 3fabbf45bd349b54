/** Disks through the API: what grows while its guest runs, and what does not. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiProcess } from "./api.ts";
import { buildGuest } from "./build.ts";
import { guestTimeoutMs, transports, verdicts } from "./harness.ts";

const sectorBytes = 512;
const folder = mkdtempSync(join(tmpdir(), "chv-disks-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let images = 0;
function image(sectors: number): string {
  const path = join(folder, `disk${images++}`);
  writeFileSync(path, "");
  truncateSync(path, sectors * sectorBytes);
  return path;
}

/** What a virtio-blk guest is started with. */
async function guest(transport: string, words: string, ...disks: string[]): Promise<string[]> {
  return [
    ...["--kernel", await buildGuest("virtio-blk")],
    ...["--cmdline", transport === "mmio" ? `transport=mmio ${words}` : words],
    ...["--serial", "tty", "--console", "off", "--memory", "64M"],
    ...["--platform", `virtio=${transport}`],
    ...disks.flatMap((disk) => ["--disk", disk]),
  ];
}

describe.each([...transports])("a disk on %s", (transport) => {
  test.each([
    ["", 0],
    [", and as large after a reboot", 1],
  ])(
    "grows under its guest, which is told once the room is there%s",
    async (_, reboots) => {
      const [from, to] = [1000, 5000];
      const path = image(from);
      const args = await guest(
        transport,
        `test=blk-resize from=${from} to=${to} reboot=${reboots}`,
        `path=${path},image_type=raw,id=growing`,
      );
      await using chv = await ApiProcess.start(...args);
      await chv.until("note in-use");

      const body = { id: "growing", desired_size: to * sectorBytes };
      expect(await chv.put("vm.resize-disk", body)).toBe(204);

      const { stdout, exitCode } = await chv.ended();
      expect(verdicts(stdout)).toEqual(["ok blk-resize", "done"]);
      expect(stdout.split("note in-use").length - 1).toBe(1);
      expect([exitCode, statSync(path).size]).toEqual([0, to * sectorBytes]);
    },
    guestTimeoutMs,
  );
});

test(
  "a disk does not shrink, and only raw files grow; each is refused by name",
  async () => {
    const raw = image(1000);
    const fixed = image(1000);
    const qcow2 = join(folder, "disk.qcow2");
    Bun.spawnSync(["qemu-img", "create", "-q", "-f", "qcow2", qcow2, "1M"]);
    const args = await guest(
      "pci",
      "test=blk-resize from=1000 to=2000",
      `path=${raw},image_type=raw,id=raw`,
      `path=${fixed},readonly=on,id=fixed`,
      `path=${qcow2},id=qcow2`,
    );
    await using chv = await ApiProcess.start(...args);
    await chv.until("note in-use");
    const refused = async (id: string, desired_size: unknown) => {
      const { status, body } = await chv.ask("PUT", "vm.resize-disk", { id, desired_size });
      return [status, JSON.parse(body)[1]];
    };

    expect(await refused("raw", 999 * sectorBytes)).toEqual([
      400,
      `--disk ${raw}: it has 512000 bytes and does not shrink; ask for more`,
    ]);
    expect((await refused("raw", 1000 * sectorBytes + 1))[0]).toBe(400);
    expect((await refused("raw", 2 ** 52))[0]).toBe(400); // larger than any file
    expect((await refused("raw", "2000"))[0]).toBe(400);
    expect((await refused("fixed", 2000 * sectorBytes))[1]).toBe(
      `--disk ${fixed}: readonly=on cannot be resized; leave it out`,
    );
    expect((await refused("qcow2", 2 ** 21))[1]).toStartWith(`--disk ${qcow2}: a qcow2 image`);
    expect((await refused("none", 2 ** 21))[0]).toBe(404);
    expect(statSync(raw).size).toBe(1000 * sectorBytes);

    const body = { id: "raw", desired_size: 2000 * sectorBytes };
    expect(await chv.put("vm.pause")).toBe(204);
    expect(await chv.put("vm.resize-disk", body)).toBe(204); // and told when it goes on
    expect(await chv.put("vm.resume")).toBe(204);
    const { stdout } = await chv.ended();
    expect(verdicts(stdout)).toEqual(["ok blk-resize", "done"]);
  },
  guestTimeoutMs,
);
