/** A firmware of this folder, entered as rust-hypervisor-firmware and edk2's CLOUDHV are, boots from a disk. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiProcess } from "./api.ts";
import { buildGuest } from "./build.ts";
import { chvCommand, guestTimeoutMs, notes, verdicts } from "./harness.ts";
import { type Ended, Follower } from "./process.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-firmware-"));
afterAll(() => rmSync(folder, { recursive: true }));

const uuid = "2f1e5d3c-4a6b-4c7d-8e9f-001122334455";
const identity = `serial_number=of-this-one,uuid=${uuid},oem_strings=[one,two]`;
const checks = ["start-info", "memory-map", "acpi", "smbios", "platform", "bars-answer"];
const all = [...checks, "boot-from-disk"].map((name) => `ok ${name}`);
const words = `test=${checks.join(",")},boot-from-disk ram=${64 * 2 ** 20}`;
const disk = join(folder, "disk");
let firmware: string;

/** Sector 0 says what is read from where, how many sectors, and where to. Nothing on it is for chv to read. */
beforeAll(async () => {
  firmware = await buildGuest("firmware");
  const [address, first] = [0x40_0000, 100];
  const program = join(folder, "program");
  const gcc = Bun.spawnSync([
    ...["gcc", "-static", "-nostdlib", "-Wl,--build-id=none", "-Wl,--oformat=binary"],
    `-Wl,-Ttext=0x${address.toString(16)}`,
    ...["-o", program, join(import.meta.dir, "firmware/program.S")],
  ]);
  expect(gcc.stderr.toString()).toBe("");
  const code = readFileSync(program);
  expect(code.length).toBe(64 * 512);
  const image = Buffer.alloc(2 ** 20);
  image.write("CHVBOOT");
  [first, code.length / 512, address].forEach((word, i) => {
    image.writeBigUInt64LE(BigInt(word), 8 + 8 * i);
  });
  code.copy(image, first * 512);
  writeFileSync(disk, image);
}, guestTimeoutMs);

const guests = (name: string, run: () => Promise<void>) => test(name, run, guestTimeoutMs);

async function chv(...args: string[]): Promise<Ended> {
  const command = [...(await chvCommand()), "--memory", "size=64M", "--disk", `path=${disk}`];
  const running = new Follower([...command, ...args], guestTimeoutMs);
  await running.endInput();
  return running.ended();
}

guests(
  "--firmware: what it is told, where ACPI and SMBIOS are, and a boot from the disk",
  async () => {
    const run = await chv(
      "--firmware",
      firmware,
      "--cmdline",
      words,
      "--platform",
      identity,
      "-vv",
    );

    expect(verdicts(run.stdout)).toEqual(all);
    expect(run.stdout.trimEnd().split(/\r?\n/).at(-1)).toBe("from the disk");
    const told = notes(run.stdout);
    expect(told.get("cmdline")).toBe(words);
    expect(told.get("serial")).toBe("of-this-one");
    expect(told.get("uuid-start")).toBe("0x2f1e5d3c");
    expect(told.get("oem")).toBe("one");
    expect(run.stderr).toContain("[Debug I/O port: Userspace code 0x60]");
    expect(run.exitCode).toBe(0);
  },
);

guests("--kernel with the same file does the same", async () => {
  const serial = ["--serial", "tty", "--console", "off"];
  const run = await chv(
    "--kernel",
    firmware,
    "--cmdline",
    words,
    "--platform",
    identity,
    ...serial,
  );

  expect([verdicts(run.stdout), run.stderr, run.exitCode]).toEqual([all, "", 0]);
});

guests("--cmdline-append and acpi=off are for the kernel that it finds", async () => {
  const more = ["--cmdline", "test=start-info,acpi", "--cmdline-append", "acpi=off"];
  const run = await chv("--firmware", firmware, ...more);

  expect(verdicts(run.stdout)).toEqual(["ok start-info", "ok acpi", "done"]);
  expect(notes(run.stdout).get("cmdline")).toBe("test=start-info,acpi acpi=off");
});

guests("payload.firmware through the API", async () => {
  await using api = await ApiProcess.start();
  const log = join(folder, "serial");
  const config = {
    payload: { firmware, cmdline: "test=start-info,boot-from-disk" },
    ...{ memory: { size: 64 * 2 ** 20 }, disks: [{ path: disk }] },
    ...{ serial: { mode: "File", file: log }, console: { mode: "Off" } },
  };

  expect(await api.put("vm.create", config)).toBe(204);
  const { payload } = JSON.parse((await api.ask("GET", "vm.info")).body).config;
  expect(payload).toMatchObject(config.payload);
  expect(await api.put("vm.boot")).toBe(204);
  expect((await api.ended()).exitCode).toBe(0);
  expect(readFileSync(log, "utf8")).toContain("from the disk");
});

guests("what is none is refused in one line, exit code 242", async () => {
  const failure = async (name: string, content: Uint8Array | string) => {
    const path = join(folder, name);
    writeFileSync(path, content);
    const { stdout, stderr, exitCode } = await chv("--firmware", path);
    expect([stdout, exitCode, stderr.trim().split("\n").length]).toEqual(["", 242, 1]);
    expect(stderr).toContain(`--firmware ${path}: `);
    return stderr;
  };
  const volume = Buffer.alloc(2 ** 18);
  volume.write("_FVH", 0x28);

  expect(await failure("OVMF.fd", volume)).toContain("a raw firmware image (an edk2 volume");
  expect(await failure("text", "none")).toContain("it is no ELF file; give an ELF image with");
  expect((await chv("--firmware", firmware, "--kernel", firmware)).stderr).toContain("--kernel: ");
  expect((await chv("--firmware", "/none")).stderr).toContain("--firmware /none: ");
});
