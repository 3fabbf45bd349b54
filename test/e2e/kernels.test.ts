import { describe, expect } from "bun:test";
import {
  addedFiles,
  bzImage,
  noAcpi,
  older,
  olderElf,
  ownDecompressor,
  pty,
  socket,
} from "./boots.ts";
import { type GuestRun, guestTest } from "./guest.ts";

/** Where a kernel's text begins: with nokaslr at CONFIG_PHYSICAL_START above __START_KERNEL_map (page_64_types.h). */
const textAddress = (console: string) => /^([0-9a-f]{16}) T _text$/m.exec(console)?.[1];
const linkedAddress = "ffffffff81000000";

function expectPowerOff(guest: GuestRun): void {
  expect(guest.events.slice(-2)).toEqual(["vm/poweroff", "vmm/exit"]);
  expect(guest.code).toBe(0);
}

describe("kernels", () => {
  guestTest("a 6.12 bzImage that chv unpacks boots, and powers off", async () => {
    const guest = await bzImage();
    expect(guest.stdout).toContain("release 6.12.");
    expectPowerOff(guest);
  });

  guestTest("a 6.12 bzImage with --kernel-entry bzimage unpacks itself", async () => {
    expect((await ownDecompressor()).files.serial).toContain("release 6.12.");
  });

  guestTest("a 6.12 vmlinux boots by its PVH note", async () => {
    expect((await socket()).files.client).toContain("release 6.12.");
  });

  guestTest("a 6.1 bzImage boots, and powers off", async () => {
    const guest = await older();
    expect(guest.stdout).toContain("release 6.1.");
    expectPowerOff(guest);
  });

  guestTest("a 6.1 vmlinux boots by its PVH note, and powers off", async () => {
    const guest = await olderElf();
    expect(guest.stdout).toContain("release 6.1.");
    expectPowerOff(guest);
  });

  guestTest(
    "acpi=off: a generic 6.12 kernel finds its processors and IRQs in the MP table",
    async () => {
      const guest = await noAcpi();
      expect(guest.stdout).toContain("release 6.12.");
      expect(guest.stdout).toContain("cpus 2\n");
      expect(guest.stdout).toContain("MPTABLE: OEM ID: CHV");
      expect(guest.stdout).toContain("ACPI: Interpreter disabled");
      expect(guest.stdout).toMatch(/IO-APIC .* ttyS0$/m);
    },
  );
});

describe("KASLR", () => {
  guestTest("two kernels that chv unpacked are at different addresses", async () => {
    const texts = [textAddress((await bzImage()).stdout), textAddress((await pty()).files.client!)];
    expect(texts[0]).toMatch(/^ffffffff[89ab]/);
    expect(texts[1]).toMatch(/^ffffffff[89ab]/);
    expect(texts[0]).not.toBe(texts[1]);
  });

  guestTest("a kernel that unpacks itself is not where it was linked", async () => {
    const text = textAddress((await ownDecompressor()).files.serial!);
    expect(text).toMatch(/^ffffffff[89ab]/);
    expect(text).not.toBe(linkedAddress);
  });

  guestTest("with nokaslr it is where it was linked", async () => {
    expect(textAddress((await socket()).files.client!)).toBe(linkedAddress);
  });

  guestTest("the log says where it is off", async () => {
    expect((await socket()).stderr).toBe("");
    expect((await bzImage()).stderr).not.toContain("KASLR is off");
  });
});

describe("initramfs", () => {
  guestTest("its files are there, byte for byte", async () => {
    const sum = new Bun.CryptoHasher("sha256").update(addedFiles["etc/e2e/numbers"]).digest("hex");
    const { stdout } = await bzImage();
    expect(stdout).toContain(addedFiles["etc/e2e/greeting"]);
    expect(stdout).toContain(`${sum}  /etc/e2e/numbers`);
  });
});
