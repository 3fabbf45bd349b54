import { describe, expect, test } from "bun:test";
import { kernelFile } from "../lab/paths.ts";
import { guestTimeoutMs, shared } from "./guest.ts";

const run = "echo release $(uname -r); grep ' _text$' /proc/kallsyms; dmesg | grep -i kaslr";

/** What the guest says of itself: its release, and where its kernel's text begins. */
const release = (stdout: string) => /^release (\S+)$/m.exec(stdout)?.[1];
const textAddress = (stdout: string) => /^([0-9a-f]{16}) T _text$/m.exec(stdout)?.[1];
/** CONFIG_PHYSICAL_START 0x1000000 above __START_KERNEL_map (Linux, arch/x86/include/asm/page_64_types.h). */
const linkedText = "ffffffff81000000";

const bzImage = shared("bzimage", { kernel: kernelFile("6.12-cloud", "vmlinuz"), run });
const another = shared("bzimage-direct", {
  kernel: kernelFile("6.12-cloud", "vmlinuz"),
  run,
  more: ["--kernel-entry", "direct"],
});

describe("kernels", () => {
  test.concurrent(
    "a 6.12 bzImage boots to userspace and powers off",
    async () => {
      const guest = await bzImage();
      expect(guest.stdout).toContain("release 6.12.");
      expect(guest.events.at(-2)).toBe("vm/poweroff");
      expect(guest.code).toBe(0);
    },
    guestTimeoutMs,
  );

  test.concurrent(
    "KASLR: two boots of a bzImage have their kernels at different addresses",
    async () => {
      const texts = [textAddress((await bzImage()).stdout), textAddress((await another()).stdout)];
      expect(texts[0]).toStartWith("ffffffff");
      expect(texts[1]).toStartWith("ffffffff");
      expect(texts[0]).not.toBe(texts[1]);
    },
    guestTimeoutMs,
  );
});
