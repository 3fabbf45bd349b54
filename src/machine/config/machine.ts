/** What to run and on what: kernel, processors, memory. JSON names are Cloud Hypervisor's. */
import * as v from "valibot";
import { choice, count, field, later, name, onOff, path, size, text } from "./field.ts";

const GiB = 2 ** 30;
const MiB = 2 ** 20;

/**
 * The most vCPUs: ids 0 to 253, below the broadcast id 255 of an xAPIC, as MADT entries of one byte
 * hold them.
 */
export const maxVcpus = 254;

const jsonOnly = { jsonOnly: true } as const;

export const PayloadConfig = field(
  v.object({
    kernel: v.optional(
      path("Kernel: a bzImage, or an ELF vmlinux; without it the one that a disk boots", {
        hint: "PATH",
      }),
    ),
    initramfs: v.optional(path("Initial RAM file system")),
    firmware: v.optional(path("Firmware, an ELF with a PVH note, that finds its kernel itself")),
    cmdline: v.optional(
      text("Kernel command line, taken byte for byte; in place of a disk's own", {
        hint: "STRING",
      }),
    ),
    cmdline_append: v.optional(text("More for the kernel command line", { hint: "STRING" })),
    boot_entry: v.optional(
      name("Entry of a disk's boot menu, in place of its default: title, id, or number from 0", {
        hint: "NAME",
      }),
    ),
    kernel_entry: v.optional(
      choice(
        ["auto", "bzimage", "direct"],
        "Who decompresses a bzImage: its own code, chv (direct), or whoever is quicker (auto)",
      ),
      "auto",
    ),
  }),
  "What the guest runs",
  { inline: true },
);

export const TopologyConfig = later(
  () => ({
    threads_per_core: count("Threads of a core", { min: 1, max: maxVcpus }),
    cores_per_die: count("Cores of a die", { min: 1, max: maxVcpus }),
    dies_per_package: count("Dies of a package", { min: 1, max: maxVcpus }),
    packages: count("Packages", { min: 1, max: maxVcpus }),
  }),
  "Processor topology; the product must be max",
  { separator: ":", hint: "THREADS:CORES:DIES:PACKAGES" },
);

export const CpusConfig = field(
  v.object({
    boot_vcpus: v.optional(
      count("vCPUs that the guest starts with", { min: 1, max: maxVcpus, key: "boot" }),
      1,
    ),
    max_vcpus: v.optional(
      count("vCPUs that it can grow to; boot if not given", { min: 1, max: maxVcpus, key: "max" }),
    ),
    topology: v.optional(TopologyConfig),
    max_phys_bits: v.optional(
      count("Physical address bits; never more than the host's", { min: 32, max: 52 }),
      46,
    ),
    kvm_hyperv: v.optional(onOff("Hyper-V interfaces for the guest", jsonOnly)),
    nested: v.optional(onOff("The guest may run guests of its own", jsonOnly)),
    features: v.optional(
      field(
        v.object({ amx: v.optional(onOff("AMX instructions"), false) }),
        "Processor features",
        jsonOnly,
      ),
    ),
  }),
  "Processors",
  { bare: "boot_vcpus" },
);

const MemoryZone = later(
  () => ({
    id: name("Name of the zone"),
    size: v.optional(size("Its RAM"), 0),
    file: v.optional(path("That RAM in a file")),
    shared: v.optional(onOff("RAM that other processes can map"), false),
    hugepages: v.optional(onOff("RAM from the host's pool of huge pages"), false),
    mergeable: v.optional(onOff("Let the host merge equal pages (KSM)"), false),
    prefault: v.optional(onOff("Take it from the host at once"), false),
    hotplug_size: v.optional(size("Address space to grow into"), 0),
  }),
  "Part of RAM",
);

export const MemoryConfig = field(
  v.object({
    size: v.optional(size("RAM that the guest starts with"), 512 * MiB),
    file: v.optional(
      path("RAM in a file: a folder gets one without a name, a file is opened and sized"),
    ),
    mergeable: v.optional(onOff("Let the host merge equal pages (KSM)"), false),
    shared: v.optional(onOff("RAM that other processes can map (memfd)"), false),
    hugepages: v.optional(onOff("RAM from the host's pool of huge pages"), false),
    prefault: v.optional(onOff("Take all RAM from the host at once"), false),
    thp: v.optional(onOff("Transparent huge pages"), true),
    hotplug_size: v.optional(size("Address space to grow into"), 0),
    hotplug_method: v.optional(choice(["Acpi", "VirtioMem"], "How memory is plugged"), "Acpi"),
    zones: v.optional(
      field(v.array(MemoryZone), "RAM in parts, each with its own backing", jsonOnly),
    ),
  }),
  "Memory",
  { bare: "size" },
);

/**
 * RAM sizes are whole pages; the least is what the firmware's tables and the smallest guest need.
 */
export const ramGranule = 4096;
export const ramMinimum = 2 * MiB;
/** The part of the address space below 4 GiB that is no RAM. */
export const ramHole = 1 * GiB;
