/** What `boot` takes: the options of `chv run`, and the text of cloud-init's files in place of their paths. */

/** A number of bytes: 1073741824, "1G", "512M". */
export type Size = number | string;
/** Milliseconds, or "500ms", "20s", "5m", "1h". */
export type Duration = number | `${number}${"ms" | "s" | "m" | "h"}`;
export type Value = string | number | boolean | readonly (string | number)[] | undefined;

/** A host's file, or what would be in it. */
export type FileOrText = string | { readonly text: string };

export interface CloudInit {
  readonly userData?: FileOrText;
  readonly metaData?: FileOrText;
  readonly networkConfig?: FileOrText;
  readonly vendorData?: FileOrText;
  /** Public keys of the default user. */
  readonly sshKey?: FileOrText;
  readonly hostname?: string;
  readonly password?: string;
}

interface RateLimits {
  readonly bw_size?: number;
  readonly bw_one_time_burst?: number;
  readonly bw_refill_time?: number;
  readonly ops_size?: number;
  readonly ops_one_time_burst?: number;
  readonly ops_refill_time?: number;
}

/** The keys of `--disk`: docs/cli.md. */
export interface Disk extends RateLimits {
  readonly path?: string;
  readonly readonly?: boolean;
  readonly direct?: boolean;
  readonly iommu?: boolean;
  readonly num_queues?: number;
  readonly queue_size?: number;
  readonly io_threads?: number;
  readonly wce?: boolean;
  readonly vhost_user?: boolean;
  readonly socket?: string;
  readonly serial?: string;
  readonly id?: string;
  readonly image_type?: "raw" | "qcow2" | "fixed-vhd" | "vhdx";
  readonly backing_files?: boolean;
  readonly sparse?: boolean;
  readonly pci_segment?: number;
}

/** The keys of `--net`. */
export interface Net extends RateLimits {
  readonly tap?: string;
  readonly ip?: string;
  readonly mask?: string;
  readonly mac?: string;
  readonly host_mac?: string;
  readonly mtu?: number;
  readonly iommu?: boolean;
  readonly num_queues?: number;
  readonly queue_size?: number;
  readonly io_threads?: number;
  readonly vhost?: boolean;
  readonly vhost_user?: boolean;
  readonly socket?: string;
  readonly fd?: readonly number[];
  readonly offload_tso?: boolean;
  readonly offload_ufo?: boolean;
  readonly offload_csum?: boolean;
  readonly id?: string;
  readonly pci_segment?: number;
}

/** The keys of `--cpus`. */
export interface Cpus {
  readonly boot?: number;
  readonly max?: number;
  /** THREADS:CORES:DIES:PACKAGES */
  readonly topology?: string;
  readonly max_phys_bits?: number;
}

/** The keys of `--memory`. */
export interface Memory {
  readonly size?: Size;
  readonly file?: string;
  readonly mergeable?: boolean;
  readonly shared?: boolean;
  readonly hugepages?: boolean;
  readonly prefault?: boolean;
  readonly thp?: boolean;
  readonly hotplug_size?: Size;
  readonly hotplug_method?: "acpi" | "virtio-mem";
}

/** Keys and values of an option, as docs/cli.md has them. */
export type Keys = Readonly<Record<string, Value>>;

export interface BootOptions {
  /** A disk image, raw or qcow2. It is never written: what the guest writes is gone with the machine. */
  readonly image: string;
  /** In place of what the image boots: a bzImage or an ELF vmlinux. */
  readonly kernel?: string;
  readonly initramfs?: string;
  /** In place of the image's own. */
  readonly cmdline?: string;
  /** More for it. */
  readonly cmdlineAppend?: string;
  readonly bootEntry?: string;
  readonly cloudInit?: CloudInit;
  /** 2 if not given. */
  readonly cpus?: number | Cpus;
  /** 1 GiB if not given. */
  readonly memory?: Size | Memory;
  readonly disks?: readonly (string | Disk)[];
  readonly net?: readonly Net[];
  readonly fs?: readonly Keys[];
  readonly vsock?: Keys;
  readonly platform?: Keys;
  /** The image's disk, made larger. */
  readonly diskSize?: Size;
  readonly backingFiles?: boolean;
  /** Keep what was written, as a qcow2 image over `image`; the machine is then powered off in order. */
  readonly keep?: string;
  /** Folder for what is not kept; TMPDIR, or /tmp. */
  readonly tmpdir?: string;
  /** For all of the machine's life. */
  readonly timeout?: Duration;
  /** A console's line that ends the machine: RE2's syntax. */
  readonly failOn?: readonly string[];
  /** All that the consoles say, with times, to this file. */
  readonly consoleLog?: string;
  /** Of the commands, unless they say it themselves. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly user?: string;
  /** More words for `chv run`, such as "-v". */
  readonly args?: readonly string[];
  /** The program, in place of what `CHV` names, what is beside this package, or what PATH has. */
  readonly chv?: string | readonly string[];
}

const units = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;

/** In milliseconds. Throws TypeError. */
export function durationMs(duration: Duration): number {
  if (typeof duration === "number" && duration >= 0) return duration;
  const [, digits, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(String(duration)) ?? [];
  if (digits === undefined) {
    throw new TypeError(
      `${duration} is no time; write milliseconds, or "500ms", "20s", "5m", "1h"`,
    );
  }
  return Number(digits) * units[unit as keyof typeof units];
}
