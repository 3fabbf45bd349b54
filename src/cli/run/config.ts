/** The machine of a run: the image under an overlay, the seed, the ports, and consoles that chv itself looks at. */
import { tmpdir as systemTmpdir } from "node:os";
import { ConfigError } from "../../exit-codes.ts";
import { close } from "../../ffi/file.ts";
import { log } from "../../log.ts";
import { openSeedDisk } from "../../machine/cloud-init/seed-disk.ts";
import { checkBoot } from "../../machine/config/check.ts";
import { type BootConfig, complete, type VmConfig } from "../../machine/config/vm.ts";
import type { VmmOptions } from "../../machine/config/vmm.ts";
import { Owned } from "../../machine/owned.ts";
import { type Overlay, openOverlay } from "../../machine/virtio/overlay.ts";
import boothook from "./boothook.sh" with { type: "text" };
import type { RunOptions } from "./options.ts";
import runner from "./runner.py" with { type: "text" };

/** Starts the runner in the guest, at each boot. */
export const bootScript = boothook.replace("@RUNNER@", () => runner);

export interface RunMachine {
  readonly config: BootConfig;
  readonly overlay: Overlay;
  /** Gives back what is open for the machine. `unused`: it never ran. */
  close(unused: boolean): void;
}

/** `ports`: those of the command; none when the console is for the terminal. Throws ConfigError. */
export function runMachine(
  image: string,
  options: RunOptions,
  ports: VmConfig["ports"],
  vmm: VmmOptions,
): RunMachine {
  const { cloud_init = {}, net = [], disks = [], platform } = options;
  const owned = new Owned();
  const overlay = openOverlay("IMAGE", image, {
    tmpdir: options.tmpdir ?? process.env.TMPDIR ?? systemTmpdir(),
    ...{ keep: options.keep, bytes: options.diskSize, backing: options.backingFiles },
  });
  let used = true;
  owned.add(() => overlay.close(!used));
  try {
    const seed = openSeedDisk(cloud_init, {
      hasNet: net.length > 0,
      instanceId: `chv-${crypto.randomUUID()}`,
      ...(ports && { boothook: bootScript }),
      warn: (line) => log.warn(line),
    });
    owned.add(() => close(seed.fd));
    const vm: VmConfig = complete({
      ...{
        payload: payloadOf(options),
        cpus: options.cpus,
        memory: options.memory,
        net,
        fs: options.fs,
      },
      ...{ vsock: options.vsock, platform, rng: { src: "/dev/urandom", iommu: false } },
      disks: [overlay.disk, ...disks, seed.disk],
      ...{ watchdog: false, pvpanic: true, ports },
      ...consoles(ports === undefined),
    });
    const config = checkBoot(vm, vmm);
    return {
      ...{ config, overlay },
      close(unused) {
        used = !unused;
        owned.close();
      },
    };
  } catch (error) {
    used = false;
    owned.close();
    throw error;
  }
}

/** Both are there. On a terminal it is the one that the kernel's messages go to. */
function consoles(onTerminal: boolean): Pick<VmConfig, "serial" | "console" | "auto_console"> {
  const mode = onTerminal ? "Tty" : "Null";
  return {
    serial: { mode: "Null", iommu: false },
    console: { mode, iommu: false },
    ...(onTerminal && { auto_console: true }),
  };
}

/** Units that wait for a network, which is not there. */
const waiting = ["systemd-networkd-wait-online.service", "NetworkManager-wait-online.service"];

/** More for the image's own command line. */
function payloadOf({ payload, net = [] }: RunOptions): RunOptions["payload"] {
  if (net.length > 0 || payload.cmdline !== undefined) return payload;
  const masks = waiting.map((unit) => `systemd.mask=${unit}`);
  const words = [...masks, ...(payload.cmdline_append ? [payload.cmdline_append] : [])];
  return { ...payload, cmdline_append: words.join(" ") };
}

/** The overlay goes by the image's name in a message. */
export function naming(error: unknown, image: string, { overlay }: RunMachine): unknown {
  if (!(error instanceof ConfigError)) return error;
  const path = overlay.disk.path!;
  const text = error.message.replaceAll(`--disk ${path}`, `IMAGE ${image}`);
  return new ConfigError(text.replaceAll(path, image), error.option);
}
