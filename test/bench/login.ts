/**
 * From the start of the VMM to a cloud image's login prompt: chv, QEMU's microvm and its q35, one after the other on the
 * same machine (the lab, unless /dev/kvm here runs Linux), each with a fresh copy of the same raw disk, and the same
 * kernel, initramfs and command line. cloud-init is off: it would be most of the time.
 */
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { run } from "../images/disk.ts";
import { cache, pathInLab, root } from "../lab/paths.ts";
import { direct, labRun } from "../lab/run.ts";
import { labTurn } from "../lab/turn.ts";
import { type Row, row } from "./report.ts";

const boundS = 290;
const inside = (path: string) => (direct ? path : pathInLab(path));
const folder = `${cache}/bench`;
const labWords = direct ? "" : " clearcpuid=rep_good init_on_alloc=0 mitigations=off tsc=reliable";
const cmdline =
  "root=LABEL=cloudimg-rootfs ro console=ttyS0 quiet systemd.show_status=false " +
  `cloud-init=disabled systemd.hostname=micro${labWords}`;

const kernel = inside(`${cache}/images/tree/vmlinuz`);
const initramfs = inside(`${cache}/images/tree/initrd.img`);
const disk = inside(`${folder}/login.run`);

const qemu = (...machine: string[]) => [
  ...["qemu-system-x86_64", ...machine, "-accel", "kvm", "-cpu", "host", "-m", "512M"],
  ...["-nodefaults", "-no-user-config", "-display", "none", "-serial", "file:console"],
  ...["-kernel", kernel, "-initrd", initramfs, "-append", cmdline],
  ...["-blockdev", `driver=file,node-name=disk,filename=${disk},aio=io_uring,locking=off`],
  ...["-device", "virtio-blk-pci,drive=disk"],
];
const vmms: Readonly<Record<string, readonly string[]>> = {
  chv: [
    ...["./chv", "--kernel", kernel, "--initramfs", initramfs, "--cmdline", cmdline],
    ...["--memory", "512M", "--cpus", "1", "--serial", "file=console", "--console", "off"],
    ...["--disk", `path=${disk},image_type=raw`],
  ],
  microvm: qemu("-M", "microvm,pcie=on,rtc=on"),
  q35: qemu("-M", "q35"),
};

/** Prints the seconds it took. */
const script = (command: readonly string[]) => `
  . ${root}/test/e2e/driver.sh
  work=$(mktemp -d); cd "$work" || exit 1
  trap 'kill -KILL $chv; cd /; rm -rf "$work"' EXIT
  cp ${inside(`${root}/dist/chv`)} chv && : >console
  tries_max=${boundS * 5}
  start=$EPOCHREALTIME
  ${command.map((word) => `'${word}'`).join(" ")} </dev/null >out 2>&1 & chv=$!
  await_text console 'micro login: ' && echo "took $start $EPOCHREALTIME" || { cat out; tail -c 2000 console; }`;

async function login(name: string): Promise<number> {
  console.error(`bench: to the login prompt on ${name}`);
  copyFileSync(`${folder}/login.raw`, `${folder}/login.run`);
  const release = direct ? () => {} : await labTurn();
  const timeoutMs = (boundS + 30) * 1000;
  const { output } = await labRun(script(vmms[name]!), { timeoutMs }).finally(release);
  const [, start, end] = /^took (\S+) (\S+)$/m.exec(output) ?? [];
  if (end === undefined) throw new Error(`${name} came to no login: ${output}`);
  return Number(end) - Number(start);
}

/** One run of each, or of the one that is named. */
export async function loginRows(only: string): Promise<Row[]> {
  mkdirSync(folder, { recursive: true });
  const raw = `${folder}/login.raw`;
  if (!existsSync(raw)) {
    run("qemu-img", "convert", "-O", "raw", `${cache}/images/24.04.img`, `${raw}.new`);
    renameSync(`${raw}.new`, raw);
  }
  const seconds: Record<string, number> = {};
  try {
    for (const name of only === "" ? Object.keys(vmms) : [only]) seconds[name] = await login(name);
  } finally {
    rmSync(`${folder}/login.run`, { force: true });
  }
  if (only !== "") return [row(`start to login: ${only} s`, "s", [seconds[only]!])];
  return ["microvm", "q35"].map((peer) =>
    row(`start to login: and ${peer} s`, "s", [seconds.chv!], {
      name: `QEMU ${peer}`,
      command: vmms[peer]!.join(" "),
      samples: [seconds[peer]!],
    }),
  );
}
