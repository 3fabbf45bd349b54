/** The virtio console, and ports with names, as Linux has them; `everyday.test.ts` has hvc0 on a terminal. */
import { describe, expect } from "bun:test";
import { noMsi, noSerial } from "./boots.ts";
import { guestTest, shared } from "./guest.ts";

const ready = "echo guest-ready; printf '\\220' | debug-port";
const active = "echo console $(cat /sys/class/tty/console/active)";

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

describe("--console", () => {
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
    const text = (await noMsi()).files.hvc!.replaceAll("\r\n", "\n");
    const numbers = Array.from({ length: 500 }, (_, i) => `${i + 1}\n`).join("");
    expect(text).toContain(`console hvc0\n${numbers}guest-ready\n`);
    expect(text).toEndWith("guest-ready\n");
  });

  guestTest("null: the guest runs, and nothing is printed", async () => {
    const guest = await noSerial();
    expect(guest.codes).toContain(0x90);
    expect(guest.stdout).toBe("");
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
