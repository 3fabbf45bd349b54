/** The order in which modules are inserted, from a modules.dep written by hand (depmod(8)). */

import { expect, test } from "bun:test";
import { moduleOrder } from "./image.ts";

const dependencies = [
  "kernel/virt/lib/irqbypass.ko:",
  "kernel/arch/x86/kvm/kvm.ko: kernel/virt/lib/irqbypass.ko",
  "kernel/arch/x86/kvm/kvm-amd.ko: kernel/arch/x86/kvm/kvm.ko kernel/virt/lib/irqbypass.ko",
  "kernel/drivers/net/tun.ko:",
  "",
].join("\n");

test("a module comes after all that it needs, and once", () => {
  expect(moduleOrder(["kvm-amd", "kvm"], dependencies)).toEqual([
    "kernel/virt/lib/irqbypass.ko",
    "kernel/arch/x86/kvm/kvm.ko",
    "kernel/arch/x86/kvm/kvm-amd.ko",
  ]);
});

test("dashes and underscores are the same in a module's name", () => {
  expect(moduleOrder(["kvm_amd"], dependencies)).toHaveLength(3);
});

test("what is not a module of this kernel is left out", () => {
  expect(moduleOrder(["virtio_pci", "tun"], dependencies)).toEqual(["kernel/drivers/net/tun.ko"]);
});
