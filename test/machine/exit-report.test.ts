/** The words for an exit that cannot be served. Numbers as in linux/kvm.h; the run page is laid out by hand. */
import { expect, test } from "bun:test";
import { eventTextBytes } from "../../src/bus/event-ring.ts";
import { KvmRegs, KvmSregs } from "../../src/ffi/kvm-abi.ts";
import { exitReport } from "../../src/machine/exit-report.ts";

/** struct kvm_run: exit_reason at 8, the union at 32. */
function runPage(reason: number, union: readonly number[]): DataView {
  const page = new DataView(new ArrayBuffer(4096));
  page.setUint32(8, reason, true);
  for (const [i, word] of union.entries()) page.setUint32(32 + i * 4, word, true);
  return page;
}

/** Every register holds its own value; or `fill` everywhere. */
function registers(fill?: bigint) {
  const [regs, sregs] = [new KvmRegs(), new KvmSregs()];
  const words = new BigUint64Array(regs.view.buffer);
  words.forEach((_, i) => {
    words[i] = fill ?? BigInt(i + 0xa0);
  });
  for (const name of ["cr0", "cr2", "cr3", "cr4", "efer"] as const) sregs[name] = fill ?? 0xcn;
  sregs.cs.selector = fill === undefined ? 0x10 : 0xffff;
  return [regs, sregs] as const;
}

test("names the exit, the place and every register, on one line", () => {
  // rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15, rip, rflags: as struct kvm_regs has them
  expect(exitReport(3, runPage(17, [1, 0]), ...registers())).toBe(
    "vcpu3: KVM_EXIT_INTERNAL_ERROR (emulation failure) at rip=b0 rflags=b1 rax=a0 rbx=a1 rcx=a2 rdx=a3 " +
      "rsi=a4 rdi=a5 rsp=a6 rbp=a7 r8=a8 r9=a9 r10=aa r11=ab r12=ac r13=ad r14=ae r15=af cs=10 cr0=c cr2=c " +
      "cr3=c cr4=c efer=c",
  );
});

test.each([
  [17, [2], "KVM_EXIT_INTERNAL_ERROR (simultaneous exceptions)"],
  [17, [99], "KVM_EXIT_INTERNAL_ERROR (suberror 99)"],
  [9, [0x8000_0021, 0], "KVM_EXIT_FAIL_ENTRY (hardware reason 0x80000021)"],
  [0, [7, 1], "KVM_EXIT_UNKNOWN (hardware reason 0x100000007)"],
  [8, [], "KVM_EXIT_SHUTDOWN"],
  [4242, [], "exit reason 4242"],
])("reason %d with %p", (reason, union, words) => {
  expect(exitReport(0, runPage(reason, union), ...registers())).toStartWith(
    `vcpu0: ${words} at rip=b0 `,
  );
});

test("fits an event whatever the registers hold", () => {
  const longest = exitReport(253, runPage(17, [0xffff_ffff]), ...registers(2n ** 64n - 1n));

  expect(new TextEncoder().encode(longest).length).toBeLessThanOrEqual(eventTextBytes);
  expect(longest).toEndWith("efer=ffffffffffffffff");
});
