/**
 * The devices, one schema each. JSON names and keys are Cloud Hypervisor's of today, aliases those
 * of early 2020.
 */
import * as v from "valibot";
import {
  choice,
  count,
  field,
  later,
  name,
  onOff,
  path,
  pattern,
  type Spelling,
  size,
} from "./field.ts";

const id = v.optional(name("Name of the device; made up if not given", { hint: "NAME" }));
const iommu = v.optional(onOff("Behind the virtual IOMMU"), false);
const pciSegment = v.optional(count("PCI segment", { max: 15 }), 0);
const queues = (description: string, preset: number) =>
  v.optional(count(description, { min: 1, max: 256 }), preset);
const ioThreads = (description: string) => v.optional(count(description, { max: 256 }), 0);
const queueSize = (preset: number) =>
  v.optional(count("Entries of a queue, a power of two", { min: 1, max: 32768 }), preset);

const mac = (description: string) =>
  pattern(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i, "a MAC, such as 52:54:00:12:34:56", description, {
    hint: "MAC",
  });
const ipv4 = (description: string) =>
  pattern(
    /^((25[0-5]|2[0-4]\d|1?\d?\d)(\.(?!$)|$)){4}$/,
    "an IPv4 address, such as 192.168.249.1",
    description,
    {
      hint: "IPV4",
    },
  );

const consoleModes = ["Off", "Null", "Tty", "File", "Pty", "Socket"] as const;

/**
 * A character device's far end. `file=` and `socket=` are modes by themselves on the command line.
 */
const characterDevice = v.object({
  mode: choice(consoleModes, "Where it goes; file= and socket= say it by themselves"),
  file: v.optional(path("Output to this file")),
  socket: v.optional(path("A unix socket that one client at a time connects to")),
  iommu,
});
const modes: Spelling = {
  bare: "mode",
  implies: { file: ["mode", "File"], socket: ["mode", "Socket"] },
};

export const SerialConfig = field(characterDevice, "Serial port (ttyS0)", modes);
export const ConsoleConfig = field(characterDevice, "Console (hvc0)", modes);

const portName = pattern(
  /^[A-Za-z0-9][\w.:+-]{0,99}$/,
  "a port's name, such as org.chv.0",
  "Name under /dev/virtio-ports in the guest",
  { hint: "NAME" },
);

export const PortConfig = later(
  () => ({
    name: portName,
    console: v.optional(onOff("It is a console of the guest (hvc1, …)"), false),
    mode: choice(
      ["Null", "Tty", "File", "Pty", "Socket"],
      "Where it goes; file= and socket= say it by themselves",
    ),
    file: v.optional(path("Output to this file")),
    socket: v.optional(path("A unix socket that one client at a time connects to")),
    fds: v.optional(
      field(
        v.object({
          in: v.optional(count("Input; where it ends, the port closes", { max: 2 ** 31 - 1 })),
          out: v.optional(count("Output", { max: 2 ** 31 - 1 })),
        }),
        "Open descriptors of the VMM's process, in place of a mode",
        { jsonOnly: true },
      ),
    ),
  }),
  "Named port, all of them on a second console device",
  { ...modes, bare: "name", option: "port" },
);

const tokenBucket = (what: string, prefix: string) =>
  field(
    v.object({
      size: count(`Limit: ${what} in the bucket; 0 is none`),
      one_time_burst: v.optional(count(`Further ${what}, once, at the start`)),
      refill_time: count("Milliseconds to fill the bucket"),
    }),
    `Limit on ${what}`,
    { prefix },
  );

const rateLimiter = v.optional(
  field(
    v.object({
      bandwidth: v.optional(tokenBucket("bytes", "bw_")),
      ops: v.optional(tokenBucket("operations", "ops_")),
    }),
    "Rate limits",
    { prefix: "" },
  ),
);

export const DiskConfig = later(
  () => ({
    path: v.optional(path("Disk image or block device")),
    readonly: v.optional(onOff("The guest cannot write"), false),
    direct: v.optional(onOff("Around the host's page cache (O_DIRECT)"), false),
    iommu,
    num_queues: queues("Queues", 1),
    queue_size: queueSize(128),
    io_threads: ioThreads(
      "I/O threads of its own that the queues are dealt to; 0 shares one with others",
    ),
    wce: v.optional(onOff("Write cache that the guest must flush"), true),
    vhost_user: v.optional(onOff("The device is behind a vhost-user socket"), false),
    vhost_socket: v.optional(path("That socket", { key: "socket", aliases: ["vhost_socket"] })),
    serial: v.optional(name("Serial number that the guest sees", { hint: "NAME" })),
    id,
    image_type: v.optional(
      choice(["Raw", "Qcow2", "FixedVhd", "Vhdx", "Unknown"], "Image format; probed if not given"),
    ),
    backing_files: v.optional(onOff("The image may have backing files"), false),
    sparse: v.optional(onOff("Discarded blocks are punched out"), true),
    rate_limiter_config: rateLimiter,
    pci_segment: pciSegment,
  }),
  "Disk",
  { option: "disk" },
);

export const NetConfig = later(
  () => ({
    tap: v.optional(name("Tap interface; made if there is none", { hint: "NAME" })),
    ip: v.optional(ipv4("Address of a tap that is made"), "192.168.249.1"),
    mask: v.optional(ipv4("Its mask"), "255.255.255.0"),
    mac: v.optional(mac("The guest's MAC; random if not given")),
    host_mac: v.optional(mac("The tap's MAC")),
    mtu: v.optional(count("MTU", { min: 68, max: 65535 })),
    iommu,
    num_queues: queues("Receive and transmit queues together, even", 2),
    queue_size: queueSize(256),
    io_threads: ioThreads(
      "I/O threads of its own that pairs are dealt to; 0 shares one with others",
    ),
    vhost: v.optional(onOff("Queues served by the kernel (vhost-net)"), false),
    vhost_user: v.optional(onOff("The device is behind a vhost-user socket"), false),
    vhost_socket: v.optional(path("That socket", { key: "socket", aliases: ["vhost_socket"] })),
    vhost_mode: v.optional(
      choice(["Client", "Server"], "Who connects to that socket", { jsonOnly: true }),
    ),
    fds: v.optional(
      v.pipe(
        v.array(count("Descriptor", { max: 2 ** 31 - 1 })),
        v.description("Open tap descriptors"),
        v.metadata({ key: "fd", hint: "[FD,…]" }),
      ),
    ),
    offload_tso: v.optional(onOff("TCP segmentation offload"), true),
    offload_ufo: v.optional(onOff("UDP fragmentation offload"), true),
    offload_csum: v.optional(onOff("Checksum offload"), true),
    id,
    rate_limiter_config: rateLimiter,
    pci_segment: pciSegment,
  }),
  "Network interface",
);

export const RngConfig = field(
  v.object({ src: v.optional(path("Source of entropy"), "/dev/urandom"), iommu }),
  "Entropy device",
);

export const PmemConfig = later(
  () => ({
    file: path("Backing file; a folder gives memory that is dropped at the end"),
    size: v.optional(size("Size; the file's if not given")),
    mergeable: v.optional(onOff("Let the host merge equal pages (KSM)"), false),
    discard_writes: v.optional(onOff("Writes are not kept"), false),
    iommu,
    id,
    pci_segment: pciSegment,
  }),
  "Persistent memory",
);

export const FsConfig = later(
  () => ({
    tag: name("Tag that the guest mounts", { hint: "NAME" }),
    socket: path("Socket of virtiofsd", { aliases: ["sock"] }),
    num_queues: queues("Request queues", 1),
    queue_size: queueSize(1024),
    dax: v.optional(onOff("Shared memory window"), false),
    cache_size: v.optional(size("Size of the window"), 0),
    id,
    pci_segment: pciSegment,
  }),
  "Shared file system",
);

export const VsockConfig = later(
  () => ({
    cid: count("Context id of the guest", { min: 3, max: 2 ** 32 - 2 }),
    socket: path("Unix socket of the host's side", { aliases: ["sock"] }),
    iommu,
    id,
    pci_segment: pciSegment,
  }),
  "Socket device",
);

export const BalloonConfig = later(
  () => ({
    size: v.optional(size("RAM taken back from the guest"), 0),
    deflate_on_oom: v.optional(onOff("Give it back when the guest has none left"), false),
    free_page_reporting: v.optional(onOff("The guest reports free pages"), false),
    id,
  }),
  "Memory balloon",
  { bare: "size" },
);

export const DeviceConfig = later(
  () => ({
    path: path("Device in sysfs"),
    iommu,
    id,
    pci_segment: pciSegment,
  }),
  "Host PCI device (VFIO)",
  { option: "device" },
);

export const PlatformConfig = later(
  () => ({
    virtio: v.optional(choice(["pci", "mmio"], "Transport of the virtio devices"), "pci"),
    num_pci_segments: v.optional(count("PCI segments", { min: 1, max: 16 }), 1),
    serial_number: v.optional(name("Serial number in the SMBIOS tables", { hint: "TEXT" })),
    uuid: v.optional(
      pattern(
        /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i,
        "a UUID, such as 2f1e5d3c-4a6b-4c7d-8e9f-001122334455",
        "UUID in the SMBIOS tables",
        { hint: "UUID" },
      ),
    ),
    oem_strings: v.optional(field(v.array(name("OEM string")), "OEM strings in the SMBIOS tables")),
    iommu_segments: v.optional(
      field(v.array(count("PCI segment")), "PCI segments behind the IOMMU", { jsonOnly: true }),
    ),
    sev_snp: v.optional(onOff("Encrypted RAM (SEV-SNP)", { jsonOnly: true })),
    tdx: v.optional(onOff("Trust domain (TDX)", { jsonOnly: true })),
  }),
  "Platform",
);
