/**
 * `./dev bench lab`: Linux on chv and on QEMU's microvm, one after the other on the same machine (the lab, unless
 * /dev/kvm here runs Linux): fio on a virtio disk, iperf3 through taps, with and without vhost-net. The same kernel,
 * initramfs and script; the disk is a file in memory, cached; 1 vCPU.
 */
import { basename } from "node:path";
import { writeInitramfs } from "../e2e/initramfs/build.ts";
import { kernelModules, netModules } from "../e2e/initramfs/modules.ts";
import { mountTools, toolsImage } from "../e2e/tools.ts";
import { cache, kernelFile, root } from "../lab/paths.ts";
import { direct, labRun, pathInside } from "../lab/run.ts";
import { labTurn } from "../lab/turn.ts";
import { type Sample, samplesOf } from "./lab-output.ts";
import { report, row } from "./report.ts";

/** Each VMM has its turn so many times, and in it each shape so many samples, after some that do not count. */
const rounds = 2;
const warm = 1;
const samples = 2;
const seconds = 1;
const usPerTick = 10_000;
const boundMs = 280_000;
const diskMiB = 256;

interface Shape {
  readonly name: string;
  /** fio's job, or iperf3's client. */
  readonly fio?: string;
  readonly iperf?: string;
}
const shapes: readonly Shape[] = [
  { name: "4k randread qd1", fio: "rw=randread bs=4k iodepth=1" },
  { name: "4k randread qd32", fio: "rw=randread bs=4k iodepth=32" },
  { name: "4k randwrite qd1", fio: "rw=randwrite bs=4k iodepth=1" },
  { name: "4k randwrite qd32", fio: "rw=randwrite bs=4k iodepth=32" },
  { name: "1M read qd4", fio: "rw=read bs=1M iodepth=4" },
  { name: "iperf3 guest to host", iperf: "-c 10.7.0.1" },
  { name: "iperf3 host to guest", iperf: "-c 10.7.0.1 -R" },
  { name: "iperf3 guest to host vhost", iperf: "-c 10.7.1.1" },
  { name: "iperf3 host to guest vhost", iperf: "-c 10.7.1.1 -R" },
];
const word = (name: string) => name.replaceAll(" ", "_");

/** fio's jobs, one after the other; it tells when each begins and ends. */
const jobs = [
  `[global]\nfilename=/dev/vdb\nsize=${diskMiB}M\ndirect=1\nioengine=libaio\nthread\nstonewall`,
  `time_based\nruntime=${seconds}`,
  ...shapes.flatMap(({ name, fio }) =>
    fio === undefined
      ? []
      : [
          `[${word(name)}]\n${fio.replaceAll(" ", "\n")}`,
          `exec_prerun=mark begin ${word(name)}\nexec_postrun=mark end ${word(name)}`,
        ],
  ),
].join("\n");

/** What fio's and iperf3's results are: requests or bytes per second. */
const script = [
  `load virtio_blk ${netModules.join(" ")}`,
  mountTools("vda"),
  "for i in 0 1; do ip addr add 10.7.$i.2/24 dev eth$i; ip link set eth$i up; done",
  "cd /tmp; mark ready",
  `for n in $(seq ${warm + samples}); do`,
  "  fio --minimal /jobs | sed -n '/^3;/p' | cut -d';' -f 3,8,49 | sed 's/^/result /'",
  ...shapes.flatMap(({ name, iperf }) =>
    iperf === undefined
      ? []
      : [
          `  mark begin ${word(name)}`,
          `  echo "result ${word(name)};$(iperf3 -f m -t ${seconds} ${iperf} | sed -n 's/.* \\([0-9.]*\\) Mbits.sec.*receiver.*/\\1/p')"`,
          `  mark end ${word(name)}`,
        ],
  ),
  "done",
].join("\n");

const initramfs = `${cache}/e2e/bench.cpio`;
writeInitramfs(initramfs, {
  files: {
    "run.sh": script,
    jobs,
    "bin/mark": '#!/bin/busybox sh\necho mark "$@" >/dev/console\n',
  },
  modules: kernelModules(["virtio_blk", ...netModules]),
});
const kernel = pathInside(kernelFile("6.12-cloud", "vmlinux"));
const initrd = pathInside(initramfs);
const tools = pathInside(toolsImage());
const labWords = direct ? "" : " clearcpuid=rep_good init_on_alloc=0 mitigations=off tsc=reliable";
const cmdline = `console=ttyS0 quiet panic=-1 chv.end=poweroff${labWords}`;
const macs = ["52:54:00:00:0b:00", "52:54:00:00:0b:01"];

const chvCommand = [
  ...["./chv", "--kernel", kernel, "--initramfs", initrd, "--cmdline", cmdline],
  ...["--memory", "512M", "--cpus", "1", "--serial", "tty", "--console", "off"],
  ...["--disk", `path=${tools},readonly=on,image_type=raw`, "path=disk,image_type=raw"],
  ...["--net", `tap=bench0,mac=${macs[0]}`, `tap=bench1,mac=${macs[1]},vhost=on`],
];
const tap = (i: number, vhost: string) => [
  ...["-netdev", `tap,id=net${i},ifname=bench${i},script=no,downscript=no,vhost=${vhost}`],
  ...["-device", `virtio-net-pci,netdev=net${i},mac=${macs[i]},romfile=`],
];
const qemuCommand = [
  ...["qemu-system-x86_64", "-M", "microvm,pcie=on,rtc=on", "-accel", "kvm", "-cpu", "host"],
  ...["-m", "512M", "-smp", "1", "-nodefaults", "-no-user-config", "-display", "none"],
  ...["-no-reboot", "-serial", "stdio", "-name", "peer,debug-threads=on"],
  ...["-kernel", kernel, "-initrd", initrd, "-append", cmdline, "-object", "iothread,id=io0"],
  ...["-blockdev", `driver=file,node-name=tools,filename=${tools},read-only=on,locking=off`],
  ...["-device", "virtio-blk-pci,drive=tools,iothread=io0"],
  ...["-blockdev", "driver=file,node-name=disk,filename=disk,aio=io_uring"],
  ...["-device", "virtio-blk-pci,drive=disk,iothread=io0", ...tap(0, "off"), ...tap(1, "on")],
];

/** One boot: its console, and between two marks of the guest what the VMM's threads have used of the processor. */
const run = (command: readonly string[], folder: string) => `
  exec {never}<> <(:)
  rm -rf ${folder}; mkdir ${folder} && cd ${folder} || exit 1
  trap 'kill $vmm $server; cd /; rm -rf ${folder}; for i in 0 1; do ip link delete bench$i; done' EXIT
  cp ${pathInside(`${root}/dist/chv`)} . && head -c ${diskMiB * 2 ** 20} /dev/zero >disk || exit
  for i in 0 1; do
    ip tuntap add dev bench$i mode tap && ip addr add 10.7.$i.1/24 dev bench$i && ip link set bench$i up
  done
  iperf3 -s >/dev/null 2>&1 & server=$!
  mkfifo console
  ${command.map((part) => `'${part}'`).join(" ")} <&$never >console & vmm=$!
  sample() {
    local task stat
    for task in /proc/$vmm/task/*; do
      { read -r stat <$task/stat; } 2>/dev/null && echo "cpu $1 $2 $stat"
    done
  }
  while read -r kind what name; do
    name=\${name%$'\\r'}
    [ "$kind" != mark ] || sample "$what" "$name" >>samples
    [ "$kind" = random: ] || echo "$kind $what $name"
  done <console
  wait $vmm; echo "status $?"; vmm=
  cat samples`;

/** By the shape's name. */
const taken = { chv: new Map<string, Sample[]>(), qemu: new Map<string, Sample[]>() };

/** One boot's samples, less those before everything was compiled (by chv) and translated (by an emulator). */
function take(output: string, into: Map<string, Sample[]>): void {
  const all = samplesOf(output);
  for (const { name } of shapes) {
    const mine = all.filter((sample) => sample.name === word(name));
    if (mine.length !== warm + samples || mine.some(({ rate }) => !(rate > 0))) {
      throw new Error(`no figures for '${name}' in:\n${output.slice(-4000)}`);
    }
    console.error(`bench: ${name}: ${mine.map(({ rate }) => rate.toFixed(0)).join(" ")}`);
    into.set(name, [...(into.get(name) ?? []), ...mine.slice(warm)]);
  }
}

for (let round = 0; round < rounds; round++) {
  for (const [name, command] of [
    ["chv", chvCommand],
    ["qemu", qemuCommand],
  ] as const) {
    console.error(`bench: ${name}, round ${round + 1} of ${rounds}`);
    const release = direct ? () => {} : await labTurn();
    const folder = `/tmp/chv-bench-${process.pid}-${round}`;
    const { output } = await labRun(run(command, folder), { timeoutMs: boundMs }).finally(release);
    take(output, taken[name]);
  }
}
const peerCommand = [basename(qemuCommand[0]!), ...qemuCommand.slice(1)].join(" ");
const rows = shapes.flatMap(({ name, fio }) => {
  const own = taken.chv.get(name)!;
  const each = (unit: string, figure: (sample: Sample) => number) =>
    row(`${name} ${unit}`, unit, own.map(figure), {
      name: "QEMU microvm",
      command: peerCommand,
      samples: taken.qemu.get(name)!.map(figure),
    });
  const perRequest = (ticks: number, rate: number) => (ticks * usPerTick) / (rate * seconds);
  const compiling = row(
    `${name} compilers %`,
    "%",
    own.map((sample) => (sample.runtime * usPerTick) / (seconds * 1e4)),
  );
  if (fio === undefined) return [each("Mbit/s", ({ rate }) => rate), compiling];
  return [
    each("requests/s", ({ rate }) => rate),
    each("user us/request", ({ user, rate }) => perRequest(user, rate)),
    each("system us/request", ({ system, rate }) => perRequest(system, rate)),
    compiling,
  ];
});
report("lab", rows);
