/** The host's KVM, found fit: opened, of the right version, with the capabilities that the machine rests on. */
import { ExitCode } from "../exit-codes.ts";
import { close } from "../ffi/file.ts";
import { apiVersion, checkExtension, openKvm } from "../ffi/kvm.ts";
import { Cap } from "../ffi/kvm-abi.ts";
import { SystemError } from "../ffi/libc.ts";

/** This host cannot run a machine, and what to do about it. */
export class KvmError extends Error {
  override readonly name = "KvmError";
  readonly exitCode = ExitCode.noKvm;
}

const needed = [
  "KVM_CAP_SPLIT_IRQCHIP",
  "KVM_CAP_IRQFD",
  "KVM_CAP_IOEVENTFD",
  "KVM_CAP_SIGNAL_MSI",
  "KVM_CAP_IMMEDIATE_EXIT",
] as const;

const fixes: Record<string, string> = {
  ENOENT:
    "load the kvm_intel or kvm_amd module; in a virtual machine, turn nested virtualisation on",
  EACCES: "add this user to the group of /dev/kvm (usually kvm), or run as root",
  EPERM: "allow this container or service to use /dev/kvm",
  ENODEV: "turn virtualisation on in the firmware, and load kvm_intel or kvm_amd",
  ENXIO: "load the kvm_intel or kvm_amd module",
};

/** A /dev/kvm descriptor, as `opener` gives it. Throws KvmError. */
export function openHostKvm(opener: () => number = openKvm): number {
  let kvm: number;
  try {
    kvm = opener();
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const fix = fixes[error.code] ?? "check what keeps this process from opening it";
    throw new KvmError(`/dev/kvm: ${error.reason}; ${fix}`);
  }
  try {
    const version = apiVersion(kvm);
    if (version !== 12) {
      throw new KvmError(`/dev/kvm: API version ${version}, not 12; update the host's kernel`);
    }
    for (const name of needed) {
      if (checkExtension(kvm, Cap[name]) <= 0) {
        throw new KvmError(`/dev/kvm: no ${name}; update the host's kernel to 4.11 or later`);
      }
    }
    return kvm;
  } catch (error) {
    close(kvm);
    if (error instanceof SystemError) {
      throw new KvmError(`/dev/kvm: not KVM (${error.message}); load kvm_intel or kvm_amd`);
    }
    throw error;
  }
}
