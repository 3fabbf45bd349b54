/**
 * The guests that the tests look at. A boot takes seconds in the lab, so each shows many things: its
 * kernel, its processors, its memory, its serial port and the way it ends are chosen to go together.
 */

import { cache, kernelFile } from "../lab/paths.ts";
import { shared } from "./guest.ts";
import { writeInitramfs } from "./initramfs/build.ts";
import { kernelModules, netModules } from "./initramfs/modules.ts";

/** What every guest says of itself; `ready` is the last line, and code 0x90 tells it without a console. */
const said = (...more: string[]) =>
  [
    "echo release $(uname -r)",
    "grep -m 1 ' _text$' /proc/kallsyms", // its first lines are enough: the rest takes seconds
    "echo cpus $(nproc)",
    ...more,
    "echo guest-ready",
    "printf '\\220' | debug-port",
  ].join("\n");

const topology =
  "cd /sys/devices/system/cpu; for i in cpu[0-9]*; do (cd $i/topology; echo $i " +
  "threads $(cat thread_siblings_list) core $(cat core_id) package $(cat physical_package_id)); done";
const memoryMap = "dmesg | grep -o 'BIOS-e820: .*'; grep MemTotal /proc/meminfo";

/** Of /proc/interrupts, what a test looks at: each byte of the console costs half a millisecond in the lab. */
const interrupts = "grep -E 'IO-APIC|LOC:' /proc/interrupts";

/** What is known of the process from outside, once the guest is ready: its mappings. */
const mappings = 'await_code 144 && echo "$(</proc/$chv/maps)" >maps';

/** A file of the lab's memory that stands for guest RAM. */
const ramFile = `/dev/shm/chv-e2e-${process.pid}`;
export const addedFiles = {
  "etc/e2e/greeting": "hello from the initramfs\n",
  "etc/e2e/numbers": Uint8Array.from({ length: 1_000_003 }, (_, index) => (index * index) >> 7),
};

function initramfsWithFiles(): string {
  const file = `${cache}/e2e/added.cpio`;
  writeInitramfs(file, { files: addedFiles });
  return file;
}

/** chv unpacks the kernel; two of four processors; a pipe types into its shell; power-off. */
export const bzImage = shared("bzimage", () => ({
  kernel: kernelFile("6.12-cloud", "vmlinuz"),
  initramfs: initramfsWithFiles(),
  run: said(
    "dmesg | grep -E 'Allowing|hotplug CPUs|PCI: ECAM'",
    topology,
    interrupts,
    "cat /etc/e2e/greeting; sha256sum /etc/e2e/numbers",
  ),
  end: "shell",
  more: ["--kernel-entry", "direct", "--cpus", "boot=2,max=4,topology=2:2:1:1", "-vv"],
  input:
    "await_text stdout guest-ready; echo 'echo typed by the pipe $((6*7))'; await_text stdout 'typed by the pipe 42'; echo poweroff -f",
}));

/** The kernel unpacks itself; its serial port is a file, so is its RAM; SIGINT. */
export const ownDecompressor = shared("own-decompressor", () => ({
  kernel: kernelFile("6.12-cloud", "vmlinuz"),
  run: said(),
  end: "shell",
  serial: "file=serial",
  more: ["--kernel-entry", "bzimage", "--memory", `size=256M,file=${ramFile},shared=on`],
  drive: `
    ${mappings} && stat -c '%s %b' ${ramFile} >ram || return
    kill -INT $chv`,
  after: `rm -f ${ramFile}`,
}));

/** chv unpacks the kernel; a pty that is opened late; RAM in a memfd; a JSON log in a file; SIGTERM. */
export const pty = shared("pty", () => ({
  kernel: kernelFile("6.12-cloud", "vmlinuz"),
  run: said(),
  end: "shell",
  serial: "pty",
  more: [
    ...["--kernel-entry", "direct", "--memory", "size=256M,shared=on"],
    ...["-vv", "--log-format", "json", "--log-file", "log"],
  ],
  drive: `
    ${mappings} || return
    await_text log '--serial pty: ' && [[ $(<log) =~ /dev/pts/[0-9]+ ]] || return
    talk "$BASH_REMATCH,raw,echo=0" || return
    kill -TERM $chv`,
}));

/** The ELF by its PVH entry; a socket that is connected to late, twice; RAM in a folder; SIGTERM. */
export const socket = shared("socket", () => ({
  run: said(),
  words: "nokaslr",
  end: "shell",
  serial: "socket=serial.sock",
  more: ["--memory", "size=256M,file=/dev/shm"],
  drive: `
    ${mappings} || return
    talk UNIX-CONNECT:serial.sock && talk UNIX-CONNECT:serial.sock second || return
    kill -TERM $chv`,
}));

/** A bzImage whose kernel is LZ4, huge pages from the host's pool, power-off. */
export const older = shared("older", () => ({
  kernel: kernelFile("6.1-cloud", "vmlinuz"),
  run: `${said()}\nread answer`, // its mappings are looked at meanwhile
  before: `
    pool=/proc/sys/vm/nr_hugepages
    before=$(cat $pool)
    echo $((before + 128)) >$pool`,
  more: ["--memory", "size=256M,hugepages=on"],
  input: "await_text looked yes; echo",
  drive: `${mappings}; grep HugePages_ /proc/meminfo >pool; echo yes >looked`,
  after: "echo $before >$pool",
}));

/** Four processors, and RAM on both sides of the hole. */
export const olderElf = shared("older-elf", () => ({
  kernel: kernelFile("6.1-cloud", "vmlinux"),
  run: said(topology, memoryMap, interrupts),
  more: ["--cpus", "boot=4,topology=2:2:1:1", "--memory", "5G"],
}));

export const large = shared("large", () => ({
  run: said(memoryMap),
  words: "mem=2G",
  more: ["--memory", "128G"],
}));

/**
 * Without ACPI there is no power-off. What has nothing to do with the MP table and costs an emulated processor of AMD's
 * ten seconds is left out: the search of 8,192 PCI slots for an AGP bridge, twice, and 10,000 looks for a keyboard.
 */
export const noAcpi = shared("no-acpi", () => ({
  kernel: kernelFile("6.12-generic", "vmlinux"),
  run: said(interrupts, "dmesg | grep -iE 'MPTABLE|acpi'"),
  words: "acpi=off pci=noearly initcall_blacklist=i8042_init",
  end: "shell",
  more: ["--cpus", "2"],
  drive: "await_text stdout guest-ready && kill -TERM $chv",
}));

export const panicked = shared("panicked", () => ({
  run: "grep -q 1 /proc/sys/kernel/sysrq || echo 1 >/proc/sys/kernel/sysrq",
  end: "panic",
  serial: "null",
  drive: `await_text events '"event":"reset"' && kill -TERM $chv`,
}));

function initramfsWithModules(name: string, modules: readonly string[]): string {
  const file = `${cache}/e2e/${name}.cpio`;
  writeInitramfs(file, { modules: kernelModules(modules) });
  return file;
}

/** hvc0 in a file; a disk and a network beside it, all of them with pins of the IOAPIC alone. */
export const noMsi = shared("no-msi", () => ({
  initramfs: initramfsWithModules("no-msi", ["virtio_blk", ...netModules]),
  words: "pci=nomsi",
  console: "file=hvc",
  before: "truncate -s 1M disk",
  run: [
    `load virtio_blk ${netModules.join(" ")}`,
    "echo msi $(grep -c MSI /proc/interrupts)",
    "yes by pin | head -c 65536 | dd of=/dev/vda 2>/dev/null; sync; echo 3 >/proc/sys/vm/drop_caches",
    "echo disk $(head -c 65536 /dev/vda | md5sum)",
    "ip addr add 10.7.7.2/24 dev eth0; ip link set eth0 up",
    "echo ping $(ping -c 3 -W 10 10.7.7.1 | grep -c 'bytes from')",
    "grep virtio /proc/interrupts",
    "echo console $(cat /sys/class/tty/console/active); seq 500; echo guest-ready",
  ].join("\n"),
  more: ["--disk", "path=disk,image_type=raw", "--net", "ip=10.7.7.1,mask=255.255.255.0"],
  after: "rm -f disk",
}));

/** No serial port at all, and hvc0, which nobody hears: codes 0x91 and 0x92 say whether there is one, 0x90 hvc0. */
export const noSerial = shared("no-serial", () => ({
  run:
    "if grep -q 16550A /proc/tty/driver/serial; then printf '\\221'; else printf '\\222'; fi | debug-port; " +
    "[ $(cat /sys/class/tty/console/active) != hvc0 ] || printf '\\220' | debug-port",
  serial: "off",
  console: "null",
}));
