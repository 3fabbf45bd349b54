/** Each way in which a host has no usable KVM: one line that says what to do, and exit code 241. */
import { expect, test } from "bun:test";
import { close, Open, open } from "../../src/ffi/file.ts";
import { createVm } from "../../src/ffi/kvm.ts";
import { SystemError } from "../../src/ffi/libc.ts";
import { KvmError, openHostKvm } from "../../src/machine/kvm-host.ts";
import { leftOpen, openFiles } from "./proc.ts";

function failure(opener: () => number): string {
  const before = openFiles();
  try {
    openHostKvm(opener);
  } catch (error) {
    expect(error).toBeInstanceOf(KvmError);
    expect((error as KvmError).exitCode).toBe(241);
    expect(leftOpen(before)).toEqual([]);
    return (error as Error).message;
  }
  return "usable";
}

// numbers of asm-generic/errno-base.h
test.each([
  [
    2,
    "no such file or directory; load the kvm_intel or kvm_amd module; in a virtual machine, turn nested virtualisation on",
  ],
  [13, "permission denied; add this user to the group of /dev/kvm (usually kvm), or run as root"],
  [1, "operation not permitted; allow this container or service to use /dev/kvm"],
  [19, "no such device; turn virtualisation on in the firmware, and load kvm_intel or kvm_amd"],
  [6, "no such device or address; load the kvm_intel or kvm_amd module"],
  [24, "too many open files; check what keeps this process from opening it"],
])("errno %d has its line", (errno, line) => {
  const refuse = () => {
    throw new SystemError("open /dev/kvm", errno);
  };

  expect(failure(refuse)).toBe(`/dev/kvm: ${line}`);
});

test("a device that is not KVM is told apart, and closed", () => {
  expect(failure(() => open("/dev/null", Open.readWrite))).toBe(
    "/dev/kvm: not KVM (ioctl(KVM_GET_API_VERSION): ENOTTY); load kvm_intel or kvm_amd",
  );
});

test("an error that is not the host's is not made one of it", () => {
  const broken = () => {
    throw new TypeError("ours");
  };

  expect(() => openHostKvm(broken)).toThrow(TypeError);
});

test("a signal that comes while a VM is made does not end that", async () => {
  const caught = Promise.withResolvers<void>();
  const onSignal = () => caught.resolve();
  process.on("SIGUSR2", onSignal);
  const storm = Bun.spawn(["sh", "-c", `while kill -USR2 ${process.pid}; do :; done`]);
  const kvm = openHostKvm();
  try {
    await caught.promise;
    // KVM gives up with EINTR where a signal is pending (mm_take_all_locks of the kernel's mm/mmap.c)
    for (let i = 0; i < 20; i++) close(createVm(kvm)); // one attempt fails nearly always
  } finally {
    close(kvm);
    storm.kill();
    await storm.exited;
    process.off("SIGUSR2", onSignal);
  }
}, 120_000);
