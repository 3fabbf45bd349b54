/**
 * What the machine boots: the file of `--firmware`, the files of `--kernel` and `--initramfs`, or
 * what the machine's own disk names (docs/disk-boot.md); and the command line, as the options change it.
 */
import { ConfigError } from "../../exit-codes.ts";
import { pread, writeAll } from "../../ffi/file.ts";
import { memfd } from "../../ffi/memory.ts";
import type * as BootDisk from "../../firmware/disk/boot-disk.ts";
import {
  type BootFile,
  type BootSetup,
  joined,
  kernelBytesMax,
  NoBootSetup,
} from "../../firmware/disk/boot-setup.ts";
import { DiskError } from "../../firmware/disk/medium.ts";
import { elfMagic } from "../../firmware/elf-magic.ts";
import { seedId } from "../config/ids.ts";
import type { BootConfig } from "../config/vm.ts";
import { type InputFile, openInput } from "../input-file.ts";
import { Owned } from "../owned.ts";
import { appended, silentConsoles } from "./cmdline.ts";
import type * as ImageMedium from "./image-medium.ts";

/** What was chosen from a disk, as `vm.info` and the log tell it. */
export interface DiskChoice {
  /** The image. */
  readonly disk: string;
  readonly loader: string;
  readonly entry: string;
  readonly config: string;
  readonly kernel: string;
  readonly initramfs: readonly string[];
  readonly cmdline: string;
  /** The partition that `root=` names, where it is on that disk. */
  readonly root: string | undefined;
}

export interface KernelFiles {
  readonly kernel: InputFile;
  readonly initramfs: InputFile | undefined;
  readonly cmdline: string;
  /** `kernel` is a firmware. */
  readonly firmware?: boolean;
  /** `kernel` is no Linux as it is shipped, and may be a firmware even where it is not called one. */
  readonly isElf: boolean;
  readonly choice: DiskChoice | undefined;
  /** Lines for the log. */
  readonly notes: readonly string[];
  readonly warnings: readonly string[];
  /** Gives the files back. A second time does nothing. */
  close(): void;
}

/** Opens what is booted. Throws ConfigError naming the option; then nothing is left open. */
export function openKernelFiles(config: BootConfig): KernelFiles {
  const owned = new Owned();
  try {
    const { kernel, firmware } = config.payload;
    if (firmware !== undefined) return fromFirmware(firmware, config, owned);
    return kernel === undefined ? fromDisks(config, owned) : fromFiles(kernel, config, owned);
  } catch (error) {
    owned.close();
    throw error;
  }
}

const openedInitramfs = ({ payload }: BootConfig, owned: Owned): InputFile | undefined =>
  payload.initramfs === undefined
    ? undefined
    : owned.file(openInput("--initramfs", payload.initramfs));

function fromFiles(path: string, config: BootConfig, owned: Owned): KernelFiles {
  const kernel = owned.file(openInput("--kernel", path));
  const initramfs = openedInitramfs(config, owned);
  const { cmdline, cmdline_append } = config.payload;
  return {
    ...{ kernel, initramfs, choice: undefined, notes: [], warnings: [] },
    isElf: startsAsElf(kernel),
    cmdline: appended(cmdline ?? diskCmdline(config), cmdline_append),
    close: () => owned.close(),
  };
}

function startsAsElf({ fd }: InputFile): boolean {
  const magic = new Uint8Array(4);
  return pread(fd, magic, 4, 0) === 4 && new Uint32Array(magic.buffer)[0] === elfMagic;
}

/** A firmware reads the disks itself. */
function fromFirmware(path: string, { payload }: BootConfig, owned: Owned): KernelFiles {
  return {
    ...{ kernel: owned.file(openInput("--firmware", path)), initramfs: undefined },
    ...{ firmware: true, isElf: true, choice: undefined, notes: [], warnings: [] },
    cmdline: appended(payload.cmdline ?? "", payload.cmdline_append),
    close: () => owned.close(),
  };
}

/** A kernel of the user's own on an image: the root that the image names, in words that need no initramfs. */
function diskCmdline(config: BootConfig): string {
  const found = search(config, () => undefined);
  if (!found) return "";
  const { cmdline, rootPartUuid } = found.setup;
  found.owned.close();
  const own = cmdline.replace(/^BOOT_IMAGE=\S*\s*/, "");
  if (rootPartUuid === undefined || config.payload.initramfs !== undefined) return own;
  return own.replace(/(^|\s)root=(?:LABEL|UUID|PARTLABEL)=\S+/g, `$1root=PARTUUID=${rootPartUuid}`);
}

interface Found {
  readonly disk: string;
  readonly setup: BootSetup;
  /** What holds the image open. */
  readonly owned: Owned;
}

/**
 * The first disk that says what to boot. `failed` hears why another does not; one that says it and cannot be followed
 * ends the search where `failed` throws.
 */
function search(
  { disks = [], payload }: BootConfig,
  failed: (disk: string, error: DiskError) => void,
): Found | undefined {
  if (disks.length === 0) return undefined;
  // the readers of images, file systems and menus are loaded only where there is a disk
  const { readBootSetup } = require("../../firmware/disk/boot-disk.ts") as typeof BootDisk;
  const { openMedium } = require("./image-medium.ts") as typeof ImageMedium;
  for (const config of disks) {
    const { path: disk } = config;
    if (disk === undefined || config.vhost_user || config.id === seedId) continue;
    const owned = new Owned();
    try {
      const medium = openMedium(config, owned);
      return { disk, owned, setup: readBootSetup({ disk: medium, entry: payload.boot_entry }) };
    } catch (error) {
      owned.close();
      if (!(error instanceof DiskError)) throw error;
      failed(disk, error);
    }
  }
  return undefined;
}

function fromDisks(config: BootConfig, owned: Owned): KernelFiles {
  const misses: string[] = [];
  const found = search(config, (disk, error) => {
    if (!(error instanceof NoBootSetup)) throw diskError(disk, error);
    misses.push(`--disk ${disk}: ${error.message}`);
  });
  if (!found) {
    const looked = misses.length > 0 ? misses.join("; ") : "--disk: no image that chv reads";
    throw new ConfigError(`${looked}; give a kernel with --kernel PATH`, "--disk");
  }
  const { disk, setup } = found;
  try {
    const { payload } = config;
    const own = openedInitramfs(config, owned);
    const kernel = inMemory("kernel", shown(setup.kernel), [setup.kernel], owned);
    const initramfs =
      own ??
      (setup.initrds.length === 0
        ? undefined
        : inMemory("initramfs", setup.initrds.map(shown).join(", "), setup.initrds, owned));
    const cmdline = appended(payload.cmdline ?? setup.cmdline, payload.cmdline_append);
    const choice: DiskChoice = {
      ...{ disk, loader: setup.loader, entry: setup.title, config: setup.config, cmdline },
      kernel: kernel.path,
      initramfs: own ? [own.path] : setup.initrds.map(shown),
      root: setup.root,
    };
    const notes = [
      `boots "${setup.title}" of --disk ${disk} (${setup.disk}), by ${setup.loader}: ${setup.config}`,
      `kernel ${choice.kernel}, initramfs ${choice.initramfs.join(", ") || "none"}`,
      `command line: ${cmdline}`,
    ];
    const warnings = setup.notes.map((note) => `--disk ${disk}: ${note}`);
    return {
      ...{ kernel, initramfs, cmdline, choice, notes, warnings },
      isElf: startsAsElf(kernel),
      close: () => owned.close(),
    };
  } catch (error) {
    throw error instanceof DiskError ? diskError(disk, error) : error;
  } finally {
    found.owned.close();
  }
}

const diskError = (disk: string, { message }: DiskError): ConfigError =>
  new ConfigError(
    `--disk ${disk}: ${message.replace(/\.$/, "")}; repair the image, or give --kernel PATH`,
    "--disk",
  );

const shown = ({ path, place }: BootFile): string => `${path} (${place})`;

/** Files of the disk as one file that the loaders take. */
function inMemory(name: string, path: string, files: readonly BootFile[], owned: Owned): InputFile {
  let left = kernelBytesMax;
  const read = (file: BootFile) => {
    const bytes = file.read(left);
    left -= bytes.length;
    return bytes;
  };
  const bytes = joined(files.map(read));
  const fd = owned.fd(memfd(`chv-${name}`, false));
  if (!writeAll(fd, bytes)) {
    throw new ConfigError(`--disk: no memory for the ${name} of ${bytes.length} bytes`, "--disk");
  }
  return { fd, size: bytes.length, path };
}

/** Where lines for the log go. */
interface Hears {
  onNote(text: string): void;
  onWarning?(text: string): void;
}

/** Tells what was chosen from a disk, and what is odd about it. */
export function tell(files: KernelFiles, config: BootConfig, listener: Hears): void {
  const { choice, notes, warnings, cmdline } = files;
  if (!choice) return;
  for (const note of notes) listener.onNote(note);
  for (const warning of [...warnings, ...silentConsoles(config, cmdline)]) {
    listener.onWarning?.(warning);
  }
}
