/**
 * `chv backend block` as a process of its own: with QEMU's devices before it and the guest of virtio-blk in QEMU, and
 * under load, killed and started again.
 */
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NetworkNamespace } from "../network/namespace.ts";
import { endBackends, startBackend } from "./backend.ts";
import { buildGuest, buildHostProgram } from "./build.ts";
import { chvCommand, guestTimeoutMs, verdicts } from "./harness.ts";
import { Follower } from "./process.ts";
import { runSuiteOnQemu } from "./qemu.ts";
import { converse, Speaker } from "./speaker.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-vhost-user-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(endBackends);
const sectorBytes = 512;
let files = 0;
const fresh = (name: string) => join(folder, `${name}${files++}`);

/** Sectors that begin with their number, as the guest wants them. */
function filledImage(sectors: number): string {
  const bytes = new Uint8Array(sectors * sectorBytes).fill(0x5a);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < sectors; i++) view.setBigUint64(i * sectorBytes, BigInt(i), true);
  const path = fresh("image");
  writeFileSync(path, bytes);
  return path;
}

/** QEMU's arguments for shared memory and a device behind a socket. */
const sharedRam = [
  ...["-object", "memory-backend-memfd,id=ram,size=64M,share=on", "-machine", "memory-backend=ram"],
];
const shared = (socket: string, device: string) => [
  ...sharedRam,
  ...["-chardev", `socket,id=char,path=${socket}`, "-device", `${device},chardev=char`],
];

describe("with QEMU's front end", () => {
  const names = [
    ...["blk-identity", "blk-read", "blk-pieces", "blk-long-chain", "blk-write", "blk-zeroes"],
    ...["blk-discard", "queue-plain", "queue-indirect", "queue-event-index"],
    ...["queue-indirect-event-index", "queue-calls-flag", "virtio-ladder", "virtio-failed"],
    ...["virtio-reset-in-flight"],
  ];

  test.each([
    ["q35", "vhost-user-blk-pci,disable-legacy=on"],
    ["mmio", "vhost-user-blk"],
  ] as const)(
    "the guest on %s is served",
    async (machine, device) => {
      const sectors = 2048;
      const socket = fresh("socket");
      const image = `${filledImage(sectors)},serial=guest-disk,num_queues=2`;
      await using _ = await startBackend(socket, ["block", "--image", image]);

      const { stdout } = await runSuiteOnQemu(machine, names.join(","), {
        ...{ guest: "virtio-blk", cpus: 2 },
        cmdline: `sectors=${sectors} queues=2 ${machine === "mmio" ? "transport=mmio" : ""}`,
        args: shared(socket, `${device},num-queues=2,queue-size=128`),
      });

      const own = stdout.replace(/^.*Booting from ROM\.*/ms, ""); // the BIOS's words
      expect(verdicts(own)).toEqual([...names.map((name) => `ok ${name}`), "done"]);
    },
    guestTimeoutMs,
  );

  test(
    "the BIOS boots from it",
    async () => {
      const image = fresh("boot");
      const sector = (bytes: Uint8Array) => Buffer.concat([bytes], sectorBytes);
      const boot = sector(bootCode);
      boot.writeUInt16LE(0xaa55, 510);
      writeFileSync(image, Buffer.concat([boot, sector(Buffer.from("this is sector 1\0"))]));
      truncateSync(image, 2 ** 20);
      const socket = fresh("socket");
      await using _ = await startBackend(socket, ["block", "--image", `${image},readonly=on`]);

      const machine = "-M q35 -accel tcg -cpu max -m 64 -net none -nographic -no-reboot";
      const exit = ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"];
      const command = ["qemu-system-x86_64", ...machine.split(" "), ...exit];
      command.push(...shared(socket, "vhost-user-blk-pci,bootindex=0"));
      const { stdout } = await new Follower(command, guestTimeoutMs).ended();

      expect(stdout).toContain("this is sector 1");
    },
    guestTimeoutMs,
  );
});

describe("with QEMU's front end, an interface", () => {
  test.each(["net-echo", "net-echo-merging"])(
    "%s: the host's datagrams come back",
    async (name) => {
      using namespace = new NetworkNamespace();
      const socket = fresh("socket");
      const args = ["net", "--ip", "10.0.0.1", "--mask", "255.255.255.0,num_queues=2"];
      await using _ = await startBackend(socket, args, ["nsenter", `--net=${namespace.path}`]);
      const machine = "-M q35 -accel tcg -cpu max -m 64 -nographic -no-reboot";
      const exit = ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"];
      const command = ["qemu-system-x86_64", ...machine.split(" "), ...exit];
      command.push(...sharedRam, "-chardev", `socket,id=char,path=${socket}`);
      command.push("-netdev", "vhost-user,id=net,chardev=char");
      // QEMU 7.2 dies of vectors with vhost-user
      command.push("-device", "virtio-net-pci,netdev=net,vectors=0,disable-legacy=on,romfile=");
      command.push(
        "-kernel",
        await buildGuest("virtio-net"),
        "-append",
        `platform=qemu test=${name}`,
      );
      await using guest = new Follower(command, guestTimeoutMs);
      await guest.until("note ready");
      const speaker = await Speaker.open(namespace, guest);

      const sent = await converse(speaker);

      speaker.socket.close();
      const { stdout } = await guest.ended();
      expect(stdout).toContain(`note echoed ${sent}`);
      expect(stdout).toContain(`ok ${name}`);
    },
    guestTimeoutMs,
  );
});

/** A boot sector: reads the next one of the drive that it came from, prints it on COM1, and ends QEMU. */
const bootCode = Uint8Array.from([
  ...[0x31, 0xc0], //          xor ax, ax
  ...[0x8e, 0xd8], //          mov ds, ax
  ...[0x8e, 0xc0], //          mov es, ax
  ...[0xb8, 0x01, 0x02], //    mov ax, 0x0201   (INT 13h: read 1 sector)
  ...[0xb9, 0x02, 0x00], //    mov cx, 2        (cylinder 0, sector 2, counted from 1)
  ...[0xb6, 0x00], //          mov dh, 0        (head 0; DL is the drive)
  ...[0xbb, 0x00, 0x7e], //    mov bx, 0x7e00
  ...[0xcd, 0x13], //          int 0x13
  ...[0xbe, 0x00, 0x7e], //    mov si, 0x7e00
  ...[0xba, 0xf8, 0x03], //    mov dx, 0x3f8
  0xac, //                   1: lodsb
  ...[0x84, 0xc0], //          test al, al
  ...[0x74, 0x03], //          jz 2f
  0xee, //                     out dx, al
  ...[0xeb, 0xf8], //          jmp 1b
  ...[0xba, 0xf4, 0x00], //  2: mov dx, 0xf4
  0xee, //                     out dx, al
  0xf4, //                     hlt
]);

test(
  "killed and started again under load, it loses no request",
  async () => {
    const blockBytes = 4096;
    const blocks = 4096;
    const image = fresh("load");
    const content = new Uint8Array(blocks * blockBytes);
    const view = new DataView(content.buffer);
    for (let i = 0; i < blocks; i++) {
      view.setBigUint64(i * blockBytes, BigInt(i * blockBytes), true);
    }
    writeFileSync(image, content);
    const socket = fresh("socket");
    const start = () => startBackend(socket, ["block", "--image", `${image},num_queues=2`]);
    const sources = ["blk-load.c", "front-end.c", "front-end.h"];
    const program = await buildHostProgram(
      "blk-load",
      ...sources.map((name) => `test/bench/${name}`),
    );
    let backend = await start();
    const words = `op=randwrite depth=32 queues=2 requests=10000 flush=1 reconnect=1 file-bytes=${content.length}`;
    const load = new Follower(
      [program, `socket=${socket}`, `image=${image}`, ...words.split(" ")],
      guestTimeoutMs,
    );

    for (const connection of [1, 2, 3, 4]) {
      await load.until(`up ${connection}`);
      backend.kill("SIGKILL");
      await backend.ended();
      rmSync(socket); // so that its successor's is waited for
      backend = await start();
    }
    const { exitCode, stdout, stderr } = await load.ended();
    backend.kill("SIGTERM");
    await backend.ended();

    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(JSON.parse(stdout.trimEnd().split("\n").at(-1)!)).toMatchObject({ connections: 5 });
  },
  guestTimeoutMs,
);

describe("the process", () => {
  test.each([
    ["SIGTERM", 0],
    ["SIGINT", 130],
    ["SIGHUP", 129],
    ["SIGQUIT", 131],
  ] as const)(
    "ends on %s with %d, and takes its socket away",
    async (signal, code) => {
      const socket = fresh("socket");
      const backend = await startBackend(socket, ["block", "--image", filledImage(8)]);
      expect(statSync(socket).mode & 0o777).toBe(0o600);

      backend.kill(signal);
      const { exitCode, stderr } = await backend.ended();

      expect({ exitCode, stderr }).toEqual({ exitCode: code, stderr: "" });
      expect(existsSync(socket)).toBe(false);
      expect(existsSync(`${socket}.lock`)).toBe(false);
    },
    guestTimeoutMs,
  );

  test(
    "is not started twice on one socket, and takes that of a dead one",
    async () => {
      const socket = fresh("socket");
      const first = await startBackend(socket, ["block", "--image", filledImage(8)]);
      const args = ["backend", "block", "--socket", socket, "--image"];
      const second = new Follower(
        [...(await chvCommand()), ...args, filledImage(8)],
        guestTimeoutMs,
      );
      const { exitCode, stderr } = await second.ended();
      expect(exitCode).toBe(242);
      expect(stderr).toBe(
        `chv: --socket ${socket}: in use by process ${first.pid}; end it first, or name another path\n`,
      );
      first.kill("SIGKILL");
      await first.ended();
      const stale = statSync(socket).ctimeMs;

      const third = new Follower(
        [...(await chvCommand()), ...args, filledImage(8)],
        guestTimeoutMs,
      );
      const changed = () => statSync(socket, { throwIfNoEntry: false })?.ctimeMs ?? stale;
      while (changed() === stale) await Bun.sleep(5);

      third.kill("SIGTERM");
      expect((await third.ended()).exitCode).toBe(0);
    },
    guestTimeoutMs,
  );

  test.each([
    [
      ["block", "--image", "/nowhere"],
      "--image /nowhere: no such file or directory; name an image that chv may write",
    ],
    [
      ["net", "--tap", "nothing,num_queues=3"],
      "--tap tap=nothing: num_queues=3 is not even: receive and transmit queues come in pairs; add or drop one",
    ],
  ])(
    "says what it cannot have: %p",
    async (args, why) => {
      const socket = fresh("socket");
      const command = [...(await chvCommand()), "backend", ...args, "--socket", socket];

      const { exitCode, stderr } = await new Follower(command, guestTimeoutMs).ended();

      expect({ exitCode, stderr }).toEqual({ exitCode: 242, stderr: `chv: ${why}\n` });
      expect(existsSync(socket)).toBe(false);
    },
    guestTimeoutMs,
  );

  test(
    "is had in Cloud Hypervisor's spelling too",
    async () => {
      const socket = fresh("socket");
      const image = filledImage(8);
      const value = `image=${image},sock=${socket},num_queues=1,readonly=false,direct=false`;
      const backend = new Follower(
        [...(await chvCommand()), "--block-backend", value],
        guestTimeoutMs,
      );
      while (!existsSync(socket)) await Bun.sleep(5);
      const content = readFileSync(image);

      backend.kill("SIGTERM");

      expect(await backend.ended()).toEqual({ exitCode: 0, stdout: "", stderr: "" });
      expect(readFileSync(image)).toEqual(content);
    },
    guestTimeoutMs,
  );
});
