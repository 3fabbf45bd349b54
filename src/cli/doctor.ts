/** `chv doctor`: what of this host chv can use, and for what it cannot, the fix. */
import { readFileSync } from "node:fs";
import { colorize } from "consola/utils";
import { ExitCode } from "../exit-codes.ts";
import { close, Open, open } from "../ffi/file.ts";
import { IoUring } from "../ffi/io-uring.ts";
import { SystemError } from "../ffi/libc.ts";
import { KvmError, openHostKvm } from "../machine/kvm-host.ts";

type Verdict = "ok" | "limited" | "missing";
/** On a terminal. */
const colours = { ok: "green", limited: "yellow", missing: "red" } as const;

interface Finding {
  readonly what: string;
  readonly verdict: Verdict;
  readonly detail: string;
  /** What to do about it, where there is something to do. */
  readonly fix?: string;
}

/** 0 when machines can run here, 241 when they cannot. */
export function runDoctor(): number {
  const kvm = checkKvm();
  const findings = [
    ...kvm,
    ...[checkLinuxGuests(), checkNested(), checkMemory(), checkHugePages(), checkIoUring()],
    ...[checkTun(), checkDevice("vhost-net", "vhost_net", "--net vhost=on")],
    checkDevice("vhost-vsock", "vhost_vsock", "vsock in the kernel"),
  ];
  const width = Math.max(...findings.map(({ what }) => what.length));
  for (const { what, verdict, detail, fix } of findings) {
    const word = colorize(colours[verdict], verdict.padEnd(8));
    process.stdout.write(`${word} ${what.padEnd(width)}  ${detail}\n`);
    if (fix !== undefined) process.stdout.write(`${" ".repeat(width + 11)}fix: ${fix}\n`);
  }
  return kvm.some(({ verdict }) => verdict === "missing") ? ExitCode.noKvm : ExitCode.ok;
}

function text(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function checkKvm(): Finding[] {
  try {
    close(openHostKvm());
    return [{ what: "/dev/kvm", verdict: "ok", detail: "present, permitted, all capabilities" }];
  } catch (error) {
    if (!(error instanceof KvmError)) throw error;
    const [detail = "", ...fix] = error.message.split("; ");
    return [{ what: "/dev/kvm", verdict: "missing", detail, fix: fix.join("; ") }];
  }
}

/** Which module serves /dev/kvm decides whether guests run in hardware. */
function checkLinuxGuests(): Finding {
  const what = "Linux guests";
  const flags = /^flags\s*:.*$/m.exec(text("/proc/cpuinfo"))?.[0] ?? "";
  const hardware = /\b(vmx|svm)\b/.exec(flags)?.[1];
  if (hardware !== undefined) {
    const vendor = hardware === "vmx" ? "Intel VT-x" : "AMD-V";
    return { what, verdict: "ok", detail: `hardware virtualisation (${vendor})` };
  }
  return {
    ...{ what, verdict: "limited", detail: "no vmx or svm: this KVM may run small guests alone" },
    fix: "turn virtualisation on in the firmware, or nested virtualisation for this machine",
  };
}

function checkNested(): Finding {
  const values = ["kvm_intel", "kvm_amd"].map((name) =>
    text(`/sys/module/${name}/parameters/nested`).trim(),
  );
  const value = values.find((one) => one !== "");
  if (value === undefined) {
    return { what: "nested guests", verdict: "limited", detail: "neither kvm_intel nor kvm_amd" };
  }
  if (value === "Y" || value === "1") {
    return { what: "nested guests", verdict: "ok", detail: "on" };
  }
  return {
    ...{ what: "nested guests", verdict: "limited", detail: "off" },
    fix: "load the module with nested=1",
  };
}

const meminfo = (name: string): number =>
  Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text("/proc/meminfo"))?.[1] ?? 0);

/** What a usual guest has. */
const enoughKiB = 512 * 1024;

function checkMemory(): Finding {
  const available = meminfo("MemAvailable");
  const detail = `${Math.floor(available / 1024)} MiB available`;
  if (available >= enoughKiB) return { what: "memory", verdict: "ok", detail };
  return { what: "memory", verdict: "limited", detail, fix: "end something, or give guests less" };
}

function checkHugePages(): Finding {
  const [free, all] = [meminfo("HugePages_Free"), meminfo("HugePages_Total")];
  const detail = `${free} of ${all} free, ${meminfo("Hugepagesize") / 1024} MiB each`;
  if (free > 0) return { what: "huge pages", verdict: "ok", detail };
  const fix = "as root: echo 256 >/proc/sys/vm/nr_hugepages (for --memory hugepages=on)";
  return { what: "huge pages", verdict: "limited", detail, fix };
}

function checkIoUring(): Finding {
  const ring = IoUring.open(8);
  if (ring instanceof SystemError) {
    return {
      ...{ what: "io_uring", verdict: "limited", detail: `${ring.message}: slower disks` },
      fix: "as root: sysctl kernel.io_uring_disabled=0, or allow it in the container's filter",
    };
  }
  ring.close();
  return { what: "io_uring", verdict: "ok", detail: "works" };
}

function checkTun(): Finding {
  const found = checkDevice("net/tun", "tun", "--net");
  if (found.verdict !== "ok" || process.getuid?.() === 0) return found;
  const effective = /^CapEff:\s+([0-9a-f]+)/m.exec(text("/proc/self/status"))?.[1] ?? "0";
  const netAdmin = 12n;
  if ((BigInt(`0x${effective}`) >> netAdmin) & 1n) return found;
  return {
    ...{ what: found.what, verdict: "limited", detail: "taps that somebody made for this user" },
    fix: "as root: ip tuntap add NAME mode tap user $USER, and give chv --net tap=NAME",
  };
}

/** A device of the host that an option needs. */
function checkDevice(device: string, module: string, option: string): Finding {
  const what = `/dev/${device}`;
  try {
    close(open(what, Open.readWrite | Open.nonBlock));
    return { what, verdict: "ok", detail: `for ${option}` };
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const fix =
      error.code === "EACCES" || error.code === "EPERM"
        ? `add this user to the group of ${what}`
        : `as root: modprobe ${module}`;
    return { what, verdict: "missing", detail: `${error.reason}; ${option} needs it`, fix };
  }
}
