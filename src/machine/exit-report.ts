/** The words for an exit that the VMM cannot serve: the reason, where the vCPU was, and its registers. */
import { allocate } from "../ffi/block.ts";
import { ioctl } from "../ffi/ioctl.ts";
import {
  ExitReason,
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KvmExitInternal,
  KvmRegs,
  KvmRun,
  KvmSregs,
} from "../ffi/kvm-abi.ts";

/** Suberrors of KVM_EXIT_INTERNAL_ERROR (linux/kvm.h). */
const suberrors: Record<number, string> = {
  1: "emulation failure",
  2: "simultaneous exceptions",
  3: "delivery event",
  4: "unexpected exit reason",
};

const nameOf = (reason: number): string =>
  Object.entries(ExitReason).find(([, value]) => value === reason)?.[0] ?? `exit reason ${reason}`;

/** One line of an exit that vCPU `index` has just returned with, its registers asked of KVM. */
export function describeBadExit(vcpu: number, index: number, run: DataView): string {
  const { regs, sregs } = registersOf(vcpu);
  return exitReport(index, run, regs, sregs);
}

/** The same when KVM_RUN has failed with EFAULT. */
export function describeFault(vcpu: number, index: number): string {
  const { regs, sregs } = registersOf(vcpu);
  const what = `vcpu${index}: the host has nothing behind a page of the guest's memory (EFAULT)`;
  return `${what} at ${registerText(regs, sregs)}`;
}

function registersOf(vcpu: number) {
  const regs = allocate(KvmRegs);
  const sregs = allocate(KvmSregs);
  ioctl(vcpu, KVM_GET_REGS, regs);
  ioctl(vcpu, KVM_GET_SREGS, sregs);
  return { regs: regs.fields, sregs: sregs.fields };
}

/** At most `eventTextBytes`, whatever the registers hold: what an event record takes. `run` is the vCPU's run page. */
export function exitReport(
  index: number,
  run: DataView,
  regs: InstanceType<typeof KvmRegs>,
  sregs: InstanceType<typeof KvmSregs>,
): string {
  const reason = run.getUint32(KvmRun.offsets.exit_reason, true);
  let text = `vcpu${index}: ${nameOf(reason)}`;
  if (reason === ExitReason.KVM_EXIT_INTERNAL_ERROR) {
    const internal = new KvmExitInternal(run, KvmRun.offsets.exit);
    text += ` (${suberrors[internal.suberror] ?? `suberror ${internal.suberror}`})`;
  } else if (reason === ExitReason.KVM_EXIT_FAIL_ENTRY || reason === ExitReason.KVM_EXIT_UNKNOWN) {
    text += ` (hardware reason 0x${run.getBigUint64(KvmRun.offsets.exit, true).toString(16)})`;
  }
  return `${text} at ${registerText(regs, sregs)}`;
}

function registerText(
  regs: InstanceType<typeof KvmRegs>,
  sregs: InstanceType<typeof KvmSregs>,
): string {
  const hex = (value: bigint) => value.toString(16);
  const names = ["rip", "rflags", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"] as const;
  const more = ["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"] as const;
  const general = [...names, ...more].map((name) => `${name}=${hex(regs[name])}`);
  const control = [`cs=${sregs.cs.selector.toString(16)}`].concat(
    (["cr0", "cr2", "cr3", "cr4", "efer"] as const).map((name) => `${name}=${hex(sregs[name])}`),
  );
  return [...general, ...control].join(" ");
}
