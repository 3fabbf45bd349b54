import { describe, expect } from "bun:test";
import { bzImage, noSerial, ownDecompressor, panicked, pty, socket } from "./boots.ts";
import { guestTest } from "./guest.ts";

const typed = (name: string) => `typed by ${name} 42`;

describe("--serial", () => {
  guestTest("off: the guest has no serial port, and nothing is printed", async () => {
    const guest = await noSerial();
    expect(guest.codes).toEqual([0x60, 0x92, 0x90]);
    expect(guest.stdout).toBe("");
    expect(guest.stderr).toBe("");
    expect(guest.code).toBe(0);
  });

  guestTest("null: the guest runs, and nothing is printed", async () => {
    const guest = await panicked();
    expect(guest.codes).toContain(0x60);
    expect(guest.stdout).toBe("");
  });

  guestTest("tty: the console goes to standard output, the log to standard error", async () => {
    const guest = await bzImage();
    expect(guest.stdout).toContain("guest-ready\n");
    expect(guest.stdout).not.toContain("chv: ");
    expect(guest.stderr).not.toContain("guest-ready");
  });

  guestTest("tty: what comes through a pipe is typed into the guest's shell", async () => {
    expect((await bzImage()).stdout).toContain("typed by the pipe 42\n");
  });

  guestTest("file: the console goes there, and nowhere else", async () => {
    const guest = await ownDecompressor();
    expect(guest.files.serial).toContain("guest-ready");
    expect(guest.stdout).toBe("");
  });

  guestTest("pty: a client that comes late gets the boot's output, and types", async () => {
    const guest = await pty();
    expect(guest.files.client).toContain("guest-ready");
    expect(guest.files.client).toContain(typed("client"));
    expect(guest.stdout).toBe("");
  });

  guestTest("socket: a client that comes late gets the boot's output, and types", async () => {
    const guest = await socket();
    expect(guest.files.client).toContain("guest-ready");
    expect(guest.files.client).toContain(typed("client"));
    expect(guest.stdout).toBe("");
  });

  guestTest("socket: a second client comes when the first has gone", async () => {
    const { second } = (await socket()).files;
    expect(second).toContain(typed("second"));
    expect(second).not.toContain("guest-ready"); // the first one has had that
  });

  guestTest("socket: the file is gone when chv has ended", async () => {
    const { left } = (await socket()).files;
    expect(left).toContain("client\n");
    expect(left).not.toContain("serial.sock");
  });
});
