/** `chv backend block` and `chv backend net`: one device's backend, behind a vhost-user socket. */
import * as v from "valibot";
import { ConfigError, UsageError } from "../exit-codes.ts";
import { PublishedSocket } from "../http/published-socket.ts";
import { serveDevice } from "../machine/backend-process.ts";
import type {
  BackendOptionsSchema,
  BlockBackendSchema,
  NetBackendSchema,
} from "../machine/config/backends.ts";
import { DiskConfig, NetConfig } from "../machine/config/devices.ts";
import { Owned } from "../machine/owned.ts";
import { openDisk } from "../machine/virtio/disks.ts";
import { openNet } from "../machine/virtio/nets.ts";
import type { VirtioDevice } from "../machine/virtio/spec.ts";

type BackendOptions = v.InferOutput<typeof BackendOptionsSchema>;

/** `chv backend block`. Gives the exit code. */
export function runBlock({ socket, image }: v.InferOutput<typeof BlockBackendSchema>): number {
  const disk = v.parse(DiskConfig, image);
  return serve(["--socket", "--image"], socket, (owned) => openDisk(disk, 0, owned));
}

/** `chv backend net`. */
export function runNet(options: v.InferOutput<typeof NetBackendSchema>): number {
  const merged: Record<string, unknown> = {};
  for (const name of ["tap", "ip", "mask"] as const) {
    for (const [key, value] of Object.entries(options[name] ?? {})) {
      if (value === undefined) continue;
      if (merged[key] !== undefined) {
        throw new UsageError(`--${name}: ${key}= is given twice; keep one`, `--${name}`);
      }
      merged[key] = value;
    }
  }
  const net = v.parse(NetConfig, merged);
  return serve(["--socket", "--tap"], options.socket, (owned) => openNet(net, 0, owned));
}

/** `--block-backend` and `--net-backend` of plain `chv`. */
export function runBackend({ blockBackend, netBackend }: BackendOptions): number {
  if (blockBackend && netBackend) {
    const why = "one process serves one device; leave one out";
    throw new ConfigError(`--block-backend and --net-backend: ${why}`, "--net-backend");
  }
  if (blockBackend) {
    const { socket, ...image } = blockBackend;
    const disk = v.parse(DiskConfig, image);
    return serve(["--block-backend"], socket, (owned) => openDisk(disk, 0, owned));
  }
  const { socket, ...tap } = netBackend!;
  const net = v.parse(NetConfig, tap);
  return serve(["--net-backend"], socket, (owned) => openNet(net, 0, owned));
}

/** Opens the device and serves it until a signal ends the process. The options are the socket's and the device's. */
function serve(
  [socketOption, deviceOption = socketOption!]: readonly string[],
  path: string,
  open: (owned: Owned) => VirtioDevice,
): number {
  const owned = new Owned();
  try {
    const device = speakingOf(["--disk", "--net"], deviceOption, () => open(owned));
    const socket = speakingOf(["--api-socket"], socketOption!, () => {
      return new PublishedSocket({ path, mode: "0600" });
    });
    owned.add(() => socket.close());
    return serveDevice(device, socket.fd, () => socket.publish());
  } finally {
    owned.close();
  }
}

/** What a machine's option is called in an error is called `option` here. */
function speakingOf<T>(theirs: readonly string[], option: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const text = theirs.reduce((message, one) => message.replaceAll(one, option), error.message);
    throw new ConfigError(text, option);
  }
}
