/**
 * Disks of every kind under fio, which checks what it reads: raw with a queue for each processor while the machine is
 * stopped and let run, a sparse and a compressed qcow2; discard and zeroes; a file that is cut short under the guest.
 */
import { describe, expect } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { cache } from "../lab/paths.ts";
import { guestTest, inside, shared } from "./guest.ts";
import { writeInitramfs } from "./initramfs/build.ts";
import { kernelModules } from "./initramfs/modules.ts";
import { mountTools, toolsImage } from "./tools.ts";

const cpus = 4;
const MiB = 2 ** 20;
/** Of each processor's own part of the raw disk. */
const partMiB = 1;
const sparseMiB = 4;
const overlayMiB = 2;
const pauses = 5;
/** The first four MiB of the compressed image, and all of what is to be discarded. */
const line = "0123456789abcdef0123456789abcde\n";
const baseMiB = 4;
const baseSum = new Bun.CryptoHasher("sha256")
  .update(line.repeat((baseMiB * MiB) / 32))
  .digest("hex");

/** More than a command line has room for. */
const script = [
  "load virtio_blk",
  mountTools("vda"),
  "verify() {",
  "  name=$1 disk=$2; shift 2",
  "  fio --minimal --name=$name --filename=/dev/$disk --direct=1 --ioengine=libaio --iodepth=16 --rw=randwrite \\",
  "    --bs=4k --verify=crc32c --verify_state_save=0 --thread --group_reporting $@ >/tmp/out || echo $name $?",
  "  echo fio $(sed -n '/^3;/p' /tmp/out | cut -d';' -f 3,5,6,47)", // name, error, KiB read, KiB written
  "}",
  "read_back() { echo 3 >/proc/sys/vm/drop_caches; head -c $2 /dev/$1 | sha256sum; }",
  "echo queues $(ls -d /sys/block/vdb/mq/* | wc -l)",
  "echo under way",
  "{ read -r _; touch /tmp/enough; } </dev/console &",
  "until [ -e /tmp/enough ]; do",
  `  verify raw vdb --numjobs=${cpus} --size=${partMiB}M --offset_increment=${partMiB}M \\`,
  `    --cpus_allowed=0-${cpus - 1} --cpus_allowed_policy=split`,
  "done",
  "grep -- -req /proc/interrupts",
  `verify sparse vdc --size=${sparseMiB}M --offset=3M --bssplit=4k/60:16k/30:64k/10`,
  `echo base $(read_back vdd ${baseMiB * MiB})`,
  `verify overlay vdd --size=${overlayMiB}M --offset=${baseMiB}M`,
  `echo again $(read_back vdd ${baseMiB * MiB})`,
  // not busybox's own; 16 of its 32 MiB by discard, 4 by zeroes that may be discarded, 4 by fio; 8 stay
  "/mnt/bin/blkdiscard -o 0 -l 16M /dev/vde",
  "/mnt/bin/blkdiscard -z -o 16M -l 4M /dev/vde",
  "/mnt/bin/fallocate -p -o 20M -l 4M /dev/vde",
  "fio --minimal --name=trim --filename=/dev/vde --rw=trim --bs=256k --offset=28M --size=4M >/tmp/out",
  "echo trim $(cut -d';' -f 5 </tmp/out)",
  "echo 3 >/proc/sys/vm/drop_caches",
  "echo not zero $(head -c 25165824 /dev/vde | tr -d '\\0' | wc -c)",
  "echo kept $(dd if=/dev/vde bs=1M skip=24 count=4 2>/dev/null | tr -d '\\0' | wc -c)",
  "echo complaints $(dmesg | grep -ciE 'I/O error|blocked for more|soft lockup|rcu.*stall')",
  "echo cut it; read -r _ </dev/console; echo 3 >/proc/sys/vm/drop_caches",
  "echo inside $(dd if=/dev/vdf bs=64k count=16 2>/dev/null | wc -c)",
  "echo outside $(dd if=/dev/vdf bs=64k skip=32 count=1 2>&1 | grep -o 'Input/output error')",
  "echo and on $(dd if=/dev/vdf bs=64k count=16 2>/dev/null | wc -c)",
].join("\n");

function initramfs(): string {
  const file = `${cache}/e2e/fio.cpio`;
  writeInitramfs(file, { files: { "run.sh": script }, modules: kernelModules(["virtio_blk"]) });
  return file;
}

function qemuImg(...words: readonly string[]): void {
  const made = Bun.spawnSync(["qemu-img", ...words]);
  if (made.exitCode !== 0) throw new Error(made.stderr.toString());
}

/** A compressed image of Debian's kind (zstd), under another; and an empty one. */
function images(): string {
  const folder = `${cache}/e2e/fio-images`;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/raw`, line.repeat((2 * baseMiB * MiB) / line.length));
  const compressed = ["-c", "-O", "qcow2", "-o", "compression_type=zstd"];
  qemuImg("convert", ...compressed, `${folder}/raw`, `${folder}/base.qcow2`);
  const backing = ["-u", "-b", "base.qcow2", "-F", "qcow2"];
  qemuImg("create", "-q", "-f", "qcow2", ...backing, `${folder}/overlay.qcow2`, "8M");
  qemuImg("create", "-q", "-f", "qcow2", `${folder}/sparse.qcow2`, "1G");
  rmSync(`${folder}/raw`);
  return folder;
}

const disks = shared("fio", () => {
  const made = inside(images());
  return {
    initramfs: initramfs(),
    before: `
      cp ${made}/* .
      truncate -s ${cpus * partMiB}M raw; truncate -s 4M cut
      yes ${line.trim()} | head -c ${32 * MiB} >discard
      stat -c %b discard >blocks`,
    more: [
      ...["--cpus", `boot=${cpus}`, "--memory", "512M", "--api-socket", "api.sock"],
      ...["--disk", `path=${inside(toolsImage())},readonly=on,image_type=raw`],
      `path=raw,num_queues=${cpus},image_type=raw`,
      "path=sparse.qcow2",
      "path=overlay.qcow2,backing_files=on",
      "path=discard,image_type=raw",
      "path=cut,image_type=raw",
    ],
    input: "await_text paused ''; echo; await_text was-cut ''; echo",
    drive: `
      await_text stdout 'under way' && pauses ${pauses} && echo yes >paused || return
      await_text stdout 'cut it' && stat -c %b discard >>blocks && truncate -s 1M cut && echo yes >was-cut`,
    after: `
      for image in sparse overlay; do qemu-img check $image.qcow2; done >check 2>&1
      rm -f raw cut discard *.qcow2`,
  };
});

/** What fio says of a job: error, KiB read and KiB written, for each of its runs. */
const jobs = (stdout: string, name: string) =>
  [...stdout.matchAll(new RegExp(`^fio ${name};(\\d+);(\\d+);(\\d+)$`, "gm"))].map((match) =>
    match.slice(1).map(Number),
  );

describe("fio reads back what it wrote", () => {
  guestTest(
    "raw, by a queue of each processor, while the machine is paused and resumed",
    async () => {
      const { stdout, events } = await disks();
      const runs = jobs(stdout, "raw");
      expect(runs.length).toBeGreaterThan(0);
      const KiB = cpus * partMiB * 1024;
      for (const run of runs) expect(run).toEqual([0, KiB, KiB]);
      expect(events.filter((event) => event === "vm/paused")).toHaveLength(pauses);
      expect(events.filter((event) => event === "vm/resumed")).toHaveLength(pauses);
      expect(stdout).toContain(`queues ${cpus}\n`);
      for (let queue = 0; queue < cpus; queue++) {
        const [line] = stdout.match(new RegExp(`^.*virtio1-req\\.${queue}$`, "m")) ?? [];
        const counts = line!
          .trim()
          .split(/\s+/)
          .slice(1, cpus + 1)
          .map(Number);
        expect(counts.reduce((sum, count) => sum + count)).toBeGreaterThan(0);
      }
    },
  );

  guestTest("a sparse qcow2, which is sound afterwards", async () => {
    const { stdout, files } = await disks();
    expect(jobs(stdout, "sparse")).toEqual([[0, sparseMiB * 1024, sparseMiB * 1024]]);
    expect(files.check!.match(/No errors were found on the image/g)).toHaveLength(2);
  });

  guestTest("a qcow2 over a compressed one, whose own clusters stay as they were", async () => {
    const { stdout } = await disks();
    expect(jobs(stdout, "overlay")).toEqual([[0, overlayMiB * 1024, overlayMiB * 1024]]);
    expect(stdout).toContain(`base ${baseSum}`);
    expect(stdout).toContain(`again ${baseSum}`);
  });

  guestTest("without a complaint of the guest's kernel", async () => {
    expect((await disks()).stdout).toContain("complaints 0\n");
  });
});

describe("what a guest discards", () => {
  guestTest("reads as zeroes, and is gone from the host's file", async () => {
    const { stdout, files } = await disks();
    const [before, after] = files.blocks!.trim().split("\n").map(Number);
    expect(stdout).toContain("trim 0\n");
    expect(stdout).toContain("not zero 0\n");
    expect(stdout).toContain(`kept ${4 * MiB}\n`);
    expect(before! * 512).toBe(32 * MiB);
    expect(after! * 512).toBeLessThanOrEqual(8 * MiB);
  });
});

describe("a file that is cut short under the guest", () => {
  guestTest("gives I/O errors where it is missing, and goes on elsewhere", async () => {
    const { code, stdout } = await disks();
    expect(stdout).toContain(`inside ${MiB}\n`);
    expect(stdout).toContain("outside Input/output error\n");
    expect(stdout).toContain(`and on ${MiB}\n`);
    expect(code).toBe(0);
  });
});
