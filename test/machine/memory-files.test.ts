import { afterAll, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MachineEvent } from "../../src/bus/event-ring.ts";
import { EventKind } from "../../src/bus/events.ts";
import { filesOf, withReason } from "../../src/machine/memory-files.ts";
import type { VirtioDevice } from "../../src/machine/virtio/spec.ts";
import { valuesInC } from "../headers.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-memory-files-"));
const path = join(folder, "memory");
writeFileSync(path, new Uint8Array(8192));
const fd = openSync(path, "r");
afterAll(() => {
  closeSync(fd);
  rmSync(folder, { recursive: true });
});

const { KVM_EXIT_MMIO: mmio } = valuesInC(["linux/kvm"], ["KVM_EXIT_MMIO"]);
const memoryFault = 39; // KVM_EXIT_MEMORY_FAULT, in linux/kvm.h since 6.8
const event = (a: number, kind: number = EventKind.badExit): MachineEvent => ({
  ...{ kind, a, b: 0, source: 0, timeNs: 1, text: "vcpu0: what happened" },
});
const pmem = {
  label: "--pmem /m",
  backend: { kind: "pmem", spec: { fd, size: 8192 } },
} as unknown as VirtioDevice;
const other = { label: "--balloon", backend: { kind: "balloon" } } as unknown as VirtioDevice;

test("a memory fault is explained by the file that was cut short; nothing else is", () => {
  const files = filesOf([other, pmem], { size: 4096 }, { fd: -1 });

  expect(withReason(event(memoryFault), files).text).toBe("vcpu0: what happened");
  truncateSync(path, 4096);
  expect(withReason(event(memoryFault), files).text).toBe(
    "--pmem /m: the file was cut short under the guest; vcpu0: what happened",
  );
  for (const told of [event(mmio), event(memoryFault, EventKind.log)]) {
    expect(withReason(told, files)).toBe(told);
  }
});

test("a file behind RAM is one of them", () => {
  truncateSync(path, 4096);
  const files = filesOf([], { file: path, size: 8192 }, { fd });
  expect(withReason(event(memoryFault), files).text).toStartWith(`--memory file=${path}: the file`);
});
