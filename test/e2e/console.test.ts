/** The virtio console, ports with names, and the entropy device, as Linux has them. */
import { describe, expect } from "bun:test";
import { readdirSync } from "node:fs";
import { cache } from "../lab/paths.ts";
import { guestTest, shared } from "./guest.ts";
import { writeInitramfs } from "./initramfs/build.ts";

const ready = "echo guest-ready; printf '\\220' | debug-port";
const active = "echo console $(cat /sys/class/tty/console/active)";

/** The cloud kernel has the entropy device's driver as a module. */
function withRng(): string {
  const modules = `${cache}/kernels/6.12-cloud/modules`;
  const names = readdirSync(modules, { recursive: true, encoding: "utf8" });
  const wanted = names.filter((name) => /\/virtio-rng\.ko$/.test(name));
  const file = `${cache}/e2e/rng.cpio`;
  writeInitramfs(file, { modules: wanted.map((name) => `${modules}/${name}`) });
  return file;
}

/** hvc0 on standard input and output, and /dev/hwrng. */
const terminal = shared("hvc-tty", () => ({
  console: "tty",
  initramfs: withRng(),
  run: [
    active,
    "load virtio-rng",
    "echo rng $(cat /sys/class/misc/hw_random/rng_current)",
    "for i in 1 2; do echo random $(head -c 64 /dev/hwrng | sha256sum); done",
    "grep virtio /proc/interrupts",
    ready,
  ].join("\n"),
  end: "shell",
  input:
    "await_text stdout guest-ready; echo 'echo typed by the pipe $((6*7))'; await_text stdout 'typed by the pipe 42'; echo poweroff -f",
}));

/** hvc0 on a pty that is opened late; one port on a socket, one on a file. */
const ports = shared("hvc-pty", () => ({
  console: "pty",
  run: [
    active,
    // as udev does
    "mkdir /dev/virtio-ports; for port in /sys/class/virtio-ports/*; do",
    "  [ ! -f $port/name ] || ln -s ../$(basename $port) /dev/virtio-ports/$(cat $port/name); done",
    "echo ports $(ls /dev/virtio-ports)",
    "echo to the log >/dev/virtio-ports/log",
    "exec 3<>/dev/virtio-ports/org.chv.0",
    ready,
    "until read line <&3; do sleep 0.2; done", // the end of the file, while nobody is there
    'echo "heard $line" >&3; exec 3>&-',
    "echo port-done",
  ].join("\n"),
  end: "shell",
  more: ["--port", "org.chv.0,socket=agent.sock", "log,file=portlog"],
  drive: `
    await_code 144 || return
    : >agent
    { echo hello from the host; await_text agent heard; } |
      socat -T 100 -t 0.2 - UNIX-CONNECT:agent.sock >agent || return
    await_text stderr '--console pty: ' && [[ $(<stderr) =~ /dev/pts/[0-9]+ ]] || return
    talk "$BASH_REMATCH,raw,echo=0" || return
    kill -TERM $chv`,
}));

/** hvc0 on a socket that is connected to late, twice. */
const socket = shared("hvc-socket", () => ({
  console: "socket=hvc.sock",
  run: [active, ready].join("\n"),
  end: "shell",
  drive: `
    await_code 144 || return
    talk UNIX-CONNECT:hvc.sock && talk UNIX-CONNECT:hvc.sock second || return
    kill -TERM $chv`,
}));

/** hvc0 in a file. */
const file = shared("hvc-file", () => ({
  console: "file=hvc",
  run: [active, "seq 500", ready].join("\n"),
}));

/** hvc0 that nobody hears. */
const nowhere = shared("hvc-null", () => ({
  console: "null",
  run: `[ "$(cat /sys/class/tty/console/active)" = hvc0 ] && ${ready}`,
}));

describe("--console", () => {
  guestTest("tty: hvc0 is standard output, and what comes through a pipe is typed", async () => {
    const guest = await terminal();
    expect(guest.stdout).toContain("console hvc0\n");
    expect(guest.stdout).toContain("typed by the pipe 42\n");
    expect(guest.stdout).not.toContain("chv: ");
    expect(guest.stderr).toBe("");
    expect(guest.code).toBe(0);
  });

  guestTest("pty: a client that comes late gets the boot's output, and types", async () => {
    const guest = await ports();
    expect(guest.files.client).toContain("console hvc0");
    expect(guest.files.client).toContain("guest-ready");
    expect(guest.files.client).toContain("typed by client 42");
    expect(guest.stdout).toBe("");
  });

  guestTest("socket: a late client gets the boot's output; a second comes after it", async () => {
    const { files, stdout } = await socket();
    expect(files.client).toContain("console hvc0");
    expect(files.client).toContain("typed by client 42");
    expect(files.second).toContain("typed by second 42");
    expect(files.second).not.toContain("guest-ready");
    expect(files.left).not.toContain("hvc.sock");
    expect(stdout).toBe("");
  });

  guestTest("file: every byte of it, to the last before the power-off", async () => {
    const text = (await file()).files.hvc!.replaceAll("\r\n", "\n");
    const numbers = Array.from({ length: 500 }, (_, i) => `${i + 1}\n`).join("");
    expect(text).toContain(`console hvc0\n${numbers}guest-ready\n`);
    expect(text).toEndWith("guest-ready\n");
  });

  guestTest("null: the guest runs, and nothing is printed", async () => {
    const guest = await nowhere();
    expect(guest.codes).toContain(0x90);
    expect(guest.stdout).toBe("");
  });

  guestTest("has its vectors, by MSI-X, and so has the entropy device", async () => {
    const lines = (await terminal()).stdout.match(/PCI-MSIX?-\S+ +\d-edge +virtio\d-\S+/g) ?? [];
    expect(lines.map((line) => line.split(/\s+/).at(-1))).toEqual([
      "virtio0-config",
      "virtio0-input",
      "virtio0-output",
      "virtio1-config",
      "virtio1-input",
    ]);
  });
});

describe("--port", () => {
  guestTest("ports are there by their names", async () => {
    expect((await ports()).files.client).toContain("ports log org.chv.0");
  });

  guestTest("a file gets what is written", async () => {
    expect((await ports()).files.portlog).toBe("to the log\n");
  });

  guestTest("a client and a program in the guest talk", async () => {
    const { files } = await ports();
    expect(files.agent).toBe("heard hello from the host\n");
    expect(files.client).toContain("port-done");
  });
});

describe("--rng", () => {
  guestTest("/dev/hwrng is the entropy device, and gives other bytes each time", async () => {
    const { stdout } = await terminal();
    expect(stdout).toMatch(/^rng virtio_rng/m);
    const sums = [...stdout.matchAll(/^random ([0-9a-f]{64})/gm)].map(([, sum]) => sum);
    expect(new Set(sums).size).toBe(2);
  });
});
