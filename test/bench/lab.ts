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
import { report, row } from "./report.ts";

/** Each VMM has its turn so many times, and takes so many samples of each shape in it. */
const rounds = 2;
const samples = 2;
const seconds = 2;
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
  `for n in $(seq ${samples}); do`,
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

interface Figures {
  /** By the shape's name: per second, fio's requests or iperf3's megabits. */
  readonly rates: Map<string, number[]>;
  /** By the shape's name: microseconds per request, of the threads that move data. */
  readonly user: Map<string, number[]>;
  readonly system: Map<string, number[]>;
}
const add = (all: Map<string, number[]>, name: string, value: number) => {
  all.set(name, [...(all.get(name) ?? []), value]);
};

/** A line of /proc/PID/task/TID/stat: proc(5); ticks are of 10 ms. */
function ticks(stat: string): { comm: string; user: number; system: number } {
  const [, comm, rest] = /\((.*)\) (.*)$/.exec(stat)!;
  const fields = rest!.split(" "); // from the third on
  return { comm: comm!, user: Number(fields[11]), system: Number(fields[12]) };
}

function read(output: string, mover: RegExp, into: Figures): void {
  const rates: [string, number][] = [];
  for (const [, name, ...values] of output.matchAll(
    /^result (\S+?);([\d.]+)(?:;([\d.]+))?\s*$/gm,
  )) {
    rates.push([name!, values.reduce((sum, value) => sum + Number(value ?? 0), 0)]);
  }
  const spent: { name: string; user: number; system: number }[] = [];
  for (const [, what, name, stat] of output.matchAll(/^cpu (begin|end) (\S+) (.*)$/gm)) {
    const { comm, user, system } = ticks(stat!);
    if (!mover.test(comm)) continue;
    if (what === "begin" && spent.at(-1)?.name !== name)
      spent.push({ name: name!, user: 0, system: 0 });
    const sign = what === "begin" ? -1 : 1;
    spent.at(-1)!.user += sign * user;
    spent.at(-1)!.system += sign * system;
  }
  for (const { name } of shapes) {
    const mine = rates.filter(([other]) => other === word(name)).map(([, rate]) => rate);
    const cpu = spent.filter((other) => other.name === word(name));
    if (mine.length !== samples || mine.some((rate) => !(rate > 0))) {
      throw new Error(`no figures for '${name}' in:\n${output.slice(-4000)}`);
    }
    for (const [at, rate] of mine.entries()) {
      add(into.rates, name, rate);
      add(into.user, name, ((cpu[at]?.user ?? 0) * 1e4) / (rate * seconds));
      add(into.system, name, ((cpu[at]?.system ?? 0) * 1e4) / (rate * seconds));
    }
  }
}

const figures = (): Figures => ({ rates: new Map(), user: new Map(), system: new Map() });
const all = { chv: figures(), qemu: figures() };
const movers = { chv: /^(io\d+|iou-)/, qemu: /^(IO io0|qemu-system|iou-)/ };
for (let round = 0; round < rounds; round++) {
  for (const [name, command] of [
    ["chv", chvCommand],
    ["qemu", qemuCommand],
  ] as const) {
    console.error(`bench: ${name}, round ${round + 1} of ${rounds}`);
    const release = direct ? () => {} : await labTurn();
    const folder = `/tmp/chv-bench-${process.pid}-${round}`;
    const { output } = await labRun(run(command, folder), { timeoutMs: boundMs }).finally(release);
    read(output, movers[name], all[name]);
  }
}
const rows = shapes.flatMap(({ name, fio }) => {
  const each = (unit: string, pick: (of: Figures) => Map<string, number[]>) =>
    row(`${name} ${unit}`, unit, pick(all.chv).get(name)!, {
      name: "QEMU microvm",
      command:
        basename(qemuCommand[0]!) +
        qemuCommand
          .slice(1)
          .map((part) => ` ${part}`)
          .join(""),
      samples: pick(all.qemu).get(name)!,
    });
  if (fio === undefined) return [each("Mbit/s", (of) => of.rates)];
  return [
    each("requests/s", (of) => of.rates),
    each("user us/request", (of) => of.user),
    each("system us/request", (of) => of.system),
  ];
});
report("lab", rows);
