/**
 * A console, two disks, a network and an entropy device on PCI: their vectors, what removal and a rescan of the bus
 * leave of them, and seven lives of the machine, five of them begun by the API.
 */
import { describe, expect } from "bun:test";
import { cache } from "../lab/paths.ts";
import { guestTest, shared } from "./guest.ts";
import { writeInitramfs } from "./initramfs/build.ts";
import { kernelModules, netModules } from "./initramfs/modules.ts";

const modules = ["virtio_blk", ...netModules, "virtio-rng"];
const MiB = 2 ** 20;
const lives = 7;
/** Of what is not RAM, over five lives: code that is compiled and a heap that settles, a MiB each time. */
const grownKiBMax = 12 * 1024;
/** Of the second disk. */
const pattern = "yes everyday | head -c 65536";
const sumOf = (text: string) => new Bun.CryptoHasher("md5").update(text).digest("hex");
const patternSum = sumOf("everyday\n".repeat(65536 / 9 + 1).slice(0, 65536));

/** More than a command line has room for. The first byte of the first disk counts the lives. */
const script = [
  `load ${modules.join(" ")}`,
  "life=$(($(head -c 1 /dev/vda | tr '\\0' 0) + 1))",
  "printf $life | dd of=/dev/vda conv=notrunc 2>/dev/null; sync",
  "up() { ip addr add 10.7.9.2/24 dev eth0; ip link set eth0 up; }",
  "pinged() { ping -c 1 -W 10 10.7.9.1 | grep -c 'bytes from'; }",
  "up; echo life $life ping $(pinged) disk $(head -c 65536 /dev/vdb | md5sum)",
  "if [ $life = 1 ]; then",
  "  grep PCI-MSI /proc/interrupts",
  "  echo console $(cat /sys/class/tty/console/active)",
  "  echo rng $(cat /sys/class/misc/hw_random/rng_current)",
  "  for i in 1 2; do echo random $(head -c 64 /dev/hwrng | sha256sum); done",
  "  at() { readlink -f $1 | sed 's|.*/\\(0000:00:[0-9a-f.]*\\)/virtio.*|\\1|'; }",
  "  disk=$(at /sys/block/vdb) net=$(at /sys/class/net/eth0)",
  "  bars() { for d in $disk $net; do head -n 1 /sys/bus/pci/devices/$d/resource; done; }",
  "  echo bars before $(bars)",
  "  for d in $disk $net; do echo 1 >/sys/bus/pci/devices/$d/remove; done",
  "  echo removed $([ -e /sys/block/vdb ] || echo disk) $([ -e /sys/class/net/eth0 ] || echo net)",
  "  echo 1 >/sys/bus/pci/rescan",
  "  until [ -b /dev/vdb ] && [ -e /sys/class/net/eth0 ]; do sleep 0.1; done",
  "  echo bars after $(bars)",
  `  ${pattern} | tr e E | dd of=/dev/vdb conv=notrunc 2>/dev/null; sync`,
  "  echo 3 >/proc/sys/vm/drop_caches; up",
  "  echo rescanned ping $(pinged) disk $(head -c 65536 /dev/vdb | md5sum)",
  "  grep -c PCI-MSI /proc/interrupts",
  `  ${pattern} | dd of=/dev/vdb conv=notrunc 2>/dev/null; sync`,
  "fi",
  "echo guest-ready; read -r answer; echo typed: $answer; [ $answer = off ] || reboot -f",
].join("\n");

function initramfs(): string {
  const file = `${cache}/e2e/everyday.cpio`;
  writeInitramfs(file, { files: { "run.sh": script }, modules: kernelModules(modules) });
  return file;
}

/** What is left of chv's process when all that a life takes has been taken once: compared by figures. */
const look = (name: string) =>
  `counts >${name}.counts && $quick cat /proc/$chv/smaps >${name}.smaps &&
    $quick cat /proc/$chv/task/*/comm >${name}.threads`;

const machine = shared("everyday", () => ({
  boots: lives,
  initramfs: initramfs(),
  console: "tty",
  before: `truncate -s 1M one; ${pattern} >two; truncate -s 1M two`,
  more: [
    ...["--api-socket", "api.sock", "--disk", "path=one,image_type=raw", "path=two,image_type=raw"],
    ...["--net", "ip=10.7.9.1,mask=255.255.255.0,mac=52:54:00:00:09:02"],
  ],
  input: "await_text stdout guest-ready; echo again; await_text looked ''; echo off",
  drive: `
    await_text stdout guest-ready 2 && ${look("first")} || return
    for ((life = 3; life <= ${lives}; life++)); do
      api PUT vm.reboot && await_text stdout guest-ready $life || return
    done
    ${look("last")} && echo yes >looked`,
  after: "rm -f one two",
}));

/** KiB that are resident outside the guest's RAM. */
function residentKiB(smaps: string): number {
  let sum = 0;
  for (const block of smaps.split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/)) {
    const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(block)!;
    const bytes = Number.parseInt(to!, 16) - Number.parseInt(from!, 16);
    const isRam = [2 * MiB, 254 * MiB, 256 * MiB].includes(bytes) && /^VmFlags:.* dd/m.test(block);
    if (!isRam) sum += Number(/^Rss: +(\d+)/m.exec(block)![1]);
  }
  return sum;
}

/** Threads that chv or the kernel makes for the machine; the runtime's own compilers and collectors come and go. */
const own = (threads: string) =>
  threads.split("\n").filter((name) => /^(vcpu|io\d|api|chores|vhost|kvm)/.test(name));

describe("the everyday devices", () => {
  guestTest("have twelve vectors by MSI-X between them", async () => {
    const lines = (await machine()).stdout.match(/^.*PCI-MSI.*$/gm) ?? [];
    const names = lines.map((line) => line.trim().split(/\s+/).at(-1)!);
    expect(names.map((name) => name.replace(/^virtio\d-/, ""))).toEqual([
      ...["config", "input", "output"], // the console's
      ...["config", "req.0", "config", "req.0"],
      ...["config", "input.0", "output.0"],
      ...["config", "input"],
    ]);
  });

  guestTest("are a console on standard output, to which a pipe types", async () => {
    const { stdout } = await machine();
    expect(stdout).toContain("console hvc0\n");
    expect(stdout).toContain("typed: again\n");
    expect(stdout).not.toContain("chv: ");
  });

  guestTest("are a source of other random bytes each time", async () => {
    const { stdout } = await machine();
    expect(stdout).toMatch(/^rng virtio_rng/m);
    const sums = [...stdout.matchAll(/^random ([0-9a-f]{64})/gm)].map(([, sum]) => sum);
    expect(new Set(sums).size).toBe(2);
  });

  guestTest("work after removal and a rescan, at other addresses", async () => {
    const { stdout } = await machine();
    const bars = (when: string) => new RegExp(`^bars ${when} (.+)$`, "m").exec(stdout)![1];
    expect(stdout).toContain("removed disk net\n");
    expect(bars("before")).toMatch(/^0x0+c/);
    expect(bars("after")).toMatch(/^0x0+c/);
    expect(bars("after")).not.toBe(bars("before"));
    const changed = sumOf("EvEryday\n".repeat(65536 / 9 + 1).slice(0, 65536));
    expect(stdout).toContain(`rescanned ping 1 disk ${changed}`);
    expect(stdout).toContain("\n12\n");
  });
});

describe("a machine that starts over", () => {
  guestTest("by a reboot of the guest or of the API, has disk and network again", async () => {
    const { code, stdout, events } = await machine();
    for (let life = 1; life <= lives; life++) {
      expect(stdout).toContain(`life ${life} ping 1 disk ${patternSum}`);
    }
    const count = (name: string) => events.filter((event) => event === name).length;
    expect(count("vm/reset")).toBe(lives - 1);
    expect(count("guest/userspace")).toBe(lives);
    expect(events.slice(-2)).toEqual(["vm/poweroff", "vmm/exit"]);
    expect(code).toBe(0);
  });

  guestTest("leaves no descriptor, thread, mapping or memory behind", async () => {
    const { files } = await machine();
    const counts = ["first", "last"].map((name) => files[`${name}.counts`]!.split(" ").map(Number));
    const [first, last] = counts as [number[], number[]];
    expect(last[0]).toBe(first[0]!);
    expect(own(files["last.threads"]!)).toEqual(own(files["first.threads"]!));
    const grown = residentKiB(files["last.smaps"]!) - residentKiB(files["first.smaps"]!);
    expect(own(files["first.threads"]!).length).toBeGreaterThan(2);
    // one for each life would be five; the runtime's heap takes one now and then
    expect(last[2]! - first[2]!).toBeLessThan(lives - 2);
    expect(grown).toBeLessThan(grownKiBMax);
  });
});
