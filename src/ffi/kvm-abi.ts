/** KVM's ABI: structs, requests and numbers of <linux/kvm.h> and <asm/kvm.h> (x86-64), names verbatim. */
import { io, ior, iow, iowr } from "./ioctl.ts";
import { addr, array, bytes, i32, nested, struct, u8, u16, u32, u64 } from "./struct.ts";

const KVMIO = 0xae;

export const KvmUserspaceMemoryRegion = struct("kvm_userspace_memory_region", 32, {
  slot: u32,
  flags: u32,
  guest_phys_addr: addr,
  memory_size: addr,
  userspace_addr: addr,
});

export const KvmRegs = struct("kvm_regs", 144, {
  rax: u64,
  rbx: u64,
  rcx: u64,
  rdx: u64,
  rsi: u64,
  rdi: u64,
  rsp: u64,
  rbp: u64,
  r8: u64,
  r9: u64,
  r10: u64,
  r11: u64,
  r12: u64,
  r13: u64,
  r14: u64,
  r15: u64,
  rip: u64,
  rflags: u64,
});

export const KvmSegment = struct("kvm_segment", 24, {
  base: u64,
  limit: u32,
  selector: u16,
  type: u8,
  present: u8,
  dpl: u8,
  db: u8,
  s: u8,
  l: u8,
  g: u8,
  avl: u8,
  unusable: u8,
  padding: u8,
});

export const KvmDtable = struct("kvm_dtable", 16, { base: u64, limit: u16, padding: bytes(6) });

export const KvmSregs = struct("kvm_sregs", 312, {
  cs: nested(KvmSegment),
  ds: nested(KvmSegment),
  es: nested(KvmSegment),
  fs: nested(KvmSegment),
  gs: nested(KvmSegment),
  ss: nested(KvmSegment),
  tr: nested(KvmSegment),
  ldt: nested(KvmSegment),
  gdt: nested(KvmDtable),
  idt: nested(KvmDtable),
  cr0: u64,
  cr2: u64,
  cr3: u64,
  cr4: u64,
  cr8: u64,
  efer: u64,
  apic_base: u64,
  interrupt_bitmap: array(u64, 4),
});

export const KvmFpu = struct("kvm_fpu", 416, { bytes: bytes(416) }, { align: 8 });
export const KvmLapicState = struct("kvm_lapic_state", 1024, { regs: bytes(1024) });
export const KvmVcpuEvents = struct("kvm_vcpu_events", 64, { bytes: bytes(64) }, { align: 8 });
export const KvmDebugregs = struct("kvm_debugregs", 128, { bytes: bytes(128) }, { align: 8 });
export const KvmXcrs = struct("kvm_xcrs", 392, { bytes: bytes(392) }, { align: 8 });
export const KvmXsave = struct("kvm_xsave", 4096, { region: bytes(4096) }, { align: 4 });
/** Without data behind it: of a vCPU that runs no guest of its own. `size` says how much KVM may write. */
export const KvmNestedState = struct(
  "kvm_nested_state",
  128,
  {
    flags: u16,
    format: u16,
    size: u32,
    hdr: bytes(120),
  },
  { align: 8 },
);
export const KvmMpState = struct("kvm_mp_state", 4, { mp_state: u32 });

export const KvmMsrs = struct("kvm_msrs", 8, { nmsrs: u32, pad: u32 }, { align: 8 });
export const KvmMsrEntry = struct("kvm_msr_entry", 16, { index: u32, reserved: u32, data: u64 });
export const KvmMsrList = struct("kvm_msr_list", 4, { nmsrs: u32 });

export const KvmCpuid2 = struct("kvm_cpuid2", 8, { nent: u32, padding: u32 });
export const KvmCpuidEntry2 = struct("kvm_cpuid_entry2", 40, {
  function: u32,
  index: u32,
  flags: u32,
  eax: u32,
  ebx: u32,
  ecx: u32,
  edx: u32,
  padding: array(u32, 3),
});
export const KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 1;

export const KvmEnableCap = struct("kvm_enable_cap", 104, {
  cap: u32,
  flags: u32,
  args: array(u64, 4),
  pad: bytes(64),
});

export const KvmIrqRouting = struct("kvm_irq_routing", 8, { nr: u32, flags: u32 }, { align: 8 });
/** An entry whose union holds `kvm_irq_routing_msi`. */
export const KvmIrqRoutingMsi = struct(
  "kvm_irq_routing_entry",
  48,
  {
    gsi: u32,
    type: u32,
    flags: u32,
    pad: u32,
    address_lo: u32,
    address_hi: u32,
    data: u32,
    devid: u32,
    unused: array(u32, 4),
  },
  { align: 8 },
);
export const KVM_IRQ_ROUTING_MSI = 2;

export const KvmMsi = struct("kvm_msi", 32, {
  address_lo: u32,
  address_hi: u32,
  data: u32,
  flags: u32,
  devid: u32,
  pad: bytes(12),
});

export const KvmIrqfd = struct("kvm_irqfd", 32, {
  fd: u32,
  gsi: u32,
  flags: u32,
  resamplefd: u32,
  pad: bytes(16),
});
export const KVM_IRQFD_FLAG_DEASSIGN = 1;

export const KvmIoeventfd = struct("kvm_ioeventfd", 64, {
  datamatch: u64,
  addr: addr,
  len: u32,
  fd: i32,
  flags: u32,
  pad: bytes(36),
});
export const KVM_IOEVENTFD_FLAG_DATAMATCH = 1;
export const KVM_IOEVENTFD_FLAG_DEASSIGN = 4;

export const KvmSignalMask = struct("kvm_signal_mask", 4, { len: u32 });

/** The head of the page that KVM_RUN answers in. The union starts at `exit`. */
export const KvmRun = struct(
  "kvm_run",
  2352,
  {
    request_interrupt_window: u8,
    immediate_exit: u8,
    padding1: bytes(6),
    exit_reason: u32,
    ready_for_interrupt_injection: u8,
    if_flag: u8,
    flags: u16,
    cr8: u64,
    apic_base: u64,
    exit: bytes(256),
    kvm_valid_regs: u64,
    kvm_dirty_regs: u64,
    s: bytes(2048),
  },
  { align: 8 },
);

/** Members of `kvm_run`'s union, laid over `exit`. */
export const KvmExitIo = struct("kvm_run.io", 16, {
  direction: u8,
  size: u8,
  port: u16,
  count: u32,
  data_offset: addr,
});
export const KvmExitMmio = struct("kvm_run.mmio", 24, {
  phys_addr: addr,
  data: bytes(8),
  len: u32,
  is_write: u8,
});
export const KvmExitInternal = struct("kvm_run.internal", 136, {
  suberror: u32,
  ndata: u32,
  data: array(u64, 16),
});

export { ExitReason } from "./exit-reason.ts";
export const KVM_EXIT_IO_OUT = 1;
export const KVM_SYNC_X86_REGS = 1n;

export const Cap = {
  KVM_CAP_NR_VCPUS: 9,
  KVM_CAP_IRQFD: 32,
  KVM_CAP_IOEVENTFD: 36,
  KVM_CAP_MAX_VCPUS: 66,
  KVM_CAP_TSC_DEADLINE_TIMER: 72,
  KVM_CAP_SYNC_REGS: 74,
  KVM_CAP_SIGNAL_MSI: 77,
  KVM_CAP_SPLIT_IRQCHIP: 121,
  KVM_CAP_MAX_VCPU_ID: 128,
  KVM_CAP_X2APIC_API: 129,
  KVM_CAP_IMMEDIATE_EXIT: 136,
} as const;
export const KVM_X2APIC_API_USE_32BIT_IDS = 1n;
export const KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK = 2n;

export const MpState = { runnable: 0, uninitialized: 1 } as const;

/** The VM's clock, in ns; `flags` says what else is valid. */
export const KvmClockData = struct("kvm_clock_data", 48, {
  clock: u64,
  flags: u32,
  pad0: u32,
  realtime: u64,
  host_tsc: u64,
  pad: bytes(16),
});

export const KVM_GET_API_VERSION = io("KVM_GET_API_VERSION", KVMIO, 0x00);
export const KVM_CREATE_VM = io("KVM_CREATE_VM", KVMIO, 0x01);
export const KVM_GET_MSR_INDEX_LIST = iowr("KVM_GET_MSR_INDEX_LIST", KVMIO, 0x02, KvmMsrList);
export const KVM_CHECK_EXTENSION = io("KVM_CHECK_EXTENSION", KVMIO, 0x03);
export const KVM_GET_VCPU_MMAP_SIZE = io("KVM_GET_VCPU_MMAP_SIZE", KVMIO, 0x04);
export const KVM_GET_SUPPORTED_CPUID = iowr("KVM_GET_SUPPORTED_CPUID", KVMIO, 0x05, KvmCpuid2);
export const KVM_CREATE_VCPU = io("KVM_CREATE_VCPU", KVMIO, 0x41);
export const KVM_SET_USER_MEMORY_REGION = iow(
  "KVM_SET_USER_MEMORY_REGION",
  KVMIO,
  0x46,
  KvmUserspaceMemoryRegion,
);
export const KVM_SET_TSS_ADDR = io("KVM_SET_TSS_ADDR", KVMIO, 0x47);
export const KVM_SET_IDENTITY_MAP_ADDR = iow("KVM_SET_IDENTITY_MAP_ADDR", KVMIO, 0x48, u64);
export const KVM_SET_GSI_ROUTING = iow("KVM_SET_GSI_ROUTING", KVMIO, 0x6a, KvmIrqRouting);
export const KVM_IRQFD = iow("KVM_IRQFD", KVMIO, 0x76, KvmIrqfd);
export const KVM_IOEVENTFD = iow("KVM_IOEVENTFD", KVMIO, 0x79, KvmIoeventfd);
export const KVM_SET_CLOCK = iow("KVM_SET_CLOCK", KVMIO, 0x7b, KvmClockData);
export const KVM_GET_CLOCK = ior("KVM_GET_CLOCK", KVMIO, 0x7c, KvmClockData);
export const KVM_RUN = io("KVM_RUN", KVMIO, 0x80);
export const KVM_GET_REGS = ior("KVM_GET_REGS", KVMIO, 0x81, KvmRegs);
export const KVM_SET_REGS = iow("KVM_SET_REGS", KVMIO, 0x82, KvmRegs);
export const KVM_GET_SREGS = ior("KVM_GET_SREGS", KVMIO, 0x83, KvmSregs);
export const KVM_SET_SREGS = iow("KVM_SET_SREGS", KVMIO, 0x84, KvmSregs);
export const KVM_GET_MSRS = iowr("KVM_GET_MSRS", KVMIO, 0x88, KvmMsrs);
export const KVM_SET_MSRS = iow("KVM_SET_MSRS", KVMIO, 0x89, KvmMsrs);
export const KVM_SET_SIGNAL_MASK = iow("KVM_SET_SIGNAL_MASK", KVMIO, 0x8b, KvmSignalMask);
export const KVM_GET_FPU = ior("KVM_GET_FPU", KVMIO, 0x8c, KvmFpu);
export const KVM_SET_FPU = iow("KVM_SET_FPU", KVMIO, 0x8d, KvmFpu);
export const KVM_GET_LAPIC = ior("KVM_GET_LAPIC", KVMIO, 0x8e, KvmLapicState);
export const KVM_SET_LAPIC = iow("KVM_SET_LAPIC", KVMIO, 0x8f, KvmLapicState);
export const KVM_SET_CPUID2 = iow("KVM_SET_CPUID2", KVMIO, 0x90, KvmCpuid2);
export const KVM_GET_MP_STATE = ior("KVM_GET_MP_STATE", KVMIO, 0x98, KvmMpState);
export const KVM_SET_MP_STATE = iow("KVM_SET_MP_STATE", KVMIO, 0x99, KvmMpState);
export const KVM_GET_VCPU_EVENTS = ior("KVM_GET_VCPU_EVENTS", KVMIO, 0x9f, KvmVcpuEvents);
export const KVM_SET_VCPU_EVENTS = iow("KVM_SET_VCPU_EVENTS", KVMIO, 0xa0, KvmVcpuEvents);
export const KVM_GET_DEBUGREGS = ior("KVM_GET_DEBUGREGS", KVMIO, 0xa1, KvmDebugregs);
export const KVM_SET_DEBUGREGS = iow("KVM_SET_DEBUGREGS", KVMIO, 0xa2, KvmDebugregs);
export const KVM_KVMCLOCK_CTRL = io("KVM_KVMCLOCK_CTRL", KVMIO, 0xad);
export const KVM_ENABLE_CAP = iow("KVM_ENABLE_CAP", KVMIO, 0xa3, KvmEnableCap);
export const KVM_GET_XSAVE = ior("KVM_GET_XSAVE", KVMIO, 0xa4, KvmXsave);
export const KVM_SET_XSAVE = iow("KVM_SET_XSAVE", KVMIO, 0xa5, KvmXsave);
export const KVM_SIGNAL_MSI = iow("KVM_SIGNAL_MSI", KVMIO, 0xa5, KvmMsi);
export const KVM_GET_XCRS = ior("KVM_GET_XCRS", KVMIO, 0xa6, KvmXcrs);
export const KVM_SET_XCRS = iow("KVM_SET_XCRS", KVMIO, 0xa7, KvmXcrs);
export const KVM_GET_NESTED_STATE = iowr("KVM_GET_NESTED_STATE", KVMIO, 0xbe, KvmNestedState);
export const KVM_SET_NESTED_STATE = iow("KVM_SET_NESTED_STATE", KVMIO, 0xbf, KvmNestedState);
