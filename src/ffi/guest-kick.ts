/** Where the kick is let through: in the guest alone. Apart from the kick, which main sends without the ABI of KVM. */
import { Block } from "./block.ts";
import { ioctl } from "./ioctl.ts";
import { KVM_SET_SIGNAL_MASK, KvmSignalMask } from "./kvm-abi.ts";
import { kickSignal } from "./signals.ts";

/** The vCPU runs with the thread's mask less the kick: a pending kick brings KVM_RUN back with EINTR. */
export function openKickInGuest(vcpu: number, former: Block): void {
  const argument = new Block(KvmSignalMask.size + 8);
  new KvmSignalMask(argument.view).len = 8;
  const open = former.view.getBigUint64(0, true) & ~(1n << BigInt(kickSignal - 1));
  argument.view.setBigUint64(KvmSignalMask.size, open, true);
  ioctl(vcpu, KVM_SET_SIGNAL_MASK, argument);
}
