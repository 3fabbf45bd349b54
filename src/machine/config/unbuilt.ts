/**
 * What the schema takes and no device serves yet. A boot that asks for one of these is refused by
 * name, never served without it; a value that asks for nothing (an empty list, a size of 0) is no
 * request.
 */
import type { VmConfig } from "./vm.ts";
import type { VmmOptions } from "./vmm.ts";

export interface Unbuilt {
  readonly option: string;
  /** The values of the option that are served all the same. */
  readonly except?: string;
  readonly asked: (vm: VmConfig, vmm: VmmOptions | undefined) => boolean;
}

const some = (list: readonly unknown[] | undefined) => list !== undefined && list.length > 0;

/** The one table: an entry goes when its device is built. */
export const unbuilt: readonly Unbuilt[] = [
  {
    option: "--seccomp",
    except: "false",
    asked: (_, vmm) => vmm !== undefined && vmm.seccomp !== "false",
  },
  { option: "--serial iommu=on", asked: (vm) => vm.serial.iommu },
  { option: "--console iommu=on", asked: (vm) => vm.console.iommu },
  { option: "--disk iommu=on", asked: (vm) => someDisk(vm, (disk) => disk.iommu) },
  { option: "--disk vhost_user=on", asked: (vm) => someDisk(vm, (disk) => disk.vhost_user) },
  {
    option: "--disk socket=",
    asked: (vm) => someDisk(vm, (disk) => disk.vhost_socket !== undefined),
  },
  { option: "--disk pci_segment=", asked: (vm) => someDisk(vm, (disk) => disk.pci_segment > 0) },
  ...(["FixedVhd", "Vhdx"] as const).map((type) => ({
    option: `--disk image_type=${type.toLowerCase()}`,
    asked: (vm: VmConfig) => someDisk(vm, (disk) => disk.image_type === type),
  })),
  { option: "--net iommu=on", asked: (vm) => someNet(vm, (net) => net.iommu) },
  { option: "--net vhost_user=on", asked: (vm) => someNet(vm, (net) => net.vhost_user) },
  { option: "--net socket=", asked: (vm) => someNet(vm, (net) => net.vhost_socket !== undefined) },
  { option: "--net pci_segment=", asked: (vm) => someNet(vm, (net) => net.pci_segment > 0) },
  { option: "--rng iommu=on", asked: (vm) => vm.rng.iommu },
  { option: "--fs", asked: (vm) => some(vm.fs) },
  { option: "--pmem iommu=on", asked: (vm) => (vm.pmem ?? []).some(({ iommu }) => iommu) },
  {
    option: "--pmem pci_segment=",
    asked: (vm) => (vm.pmem ?? []).some(({ pci_segment }) => pci_segment > 0),
  },
  { option: "--vsock", asked: (vm) => vm.vsock !== undefined },
  { option: "--device", asked: (vm) => some(vm.devices) },
  {
    option: "--platform num_pci_segments=",
    asked: (vm) => (vm.platform?.num_pci_segments ?? 1) > 1,
  },
  { option: "cpus.kvm_hyperv: true", asked: (vm) => vm.cpus.kvm_hyperv === true },
  { option: "cpus.nested: false", asked: (vm) => vm.cpus.nested === false },
  { option: "cpus.features.amx: true", asked: (vm) => vm.cpus.features?.amx === true },
  { option: "memory.zones", asked: (vm) => some(vm.memory.zones) },
  { option: "iommu: true", asked: (vm) => vm.iommu === true },
  { option: "landlock_enable: true", asked: (vm) => vm.landlock_enable === true },
  { option: "platform.iommu_segments", asked: (vm) => some(vm.platform?.iommu_segments) },
  { option: "platform.sev_snp: true", asked: (vm) => vm.platform?.sev_snp === true },
  { option: "platform.tdx: true", asked: (vm) => vm.platform?.tdx === true },
  {
    option: "--memory hotplug_method=virtio-mem",
    asked: (vm) => vm.memory.hotplug_method === "VirtioMem",
  },
];

type Net = NonNullable<VmConfig["net"]>[number];

const someNet = (vm: VmConfig, asked: (net: Net) => boolean): boolean => (vm.net ?? []).some(asked);

type Disk = NonNullable<VmConfig["disks"]>[number];

const someDisk = (vm: VmConfig, asked: (disk: Disk) => boolean): boolean =>
  (vm.disks ?? []).some(asked);
