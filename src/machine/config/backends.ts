/** The backends that run as processes of their own: `chv backend …`, and the spellings that Cloud Hypervisor had. */
import * as v from "valibot";
import { DiskConfig, NetConfig } from "./devices.ts";
import { field, path, type Spelling } from "./field.ts";

const socket = (spelling: Spelling = {}) => path("Where the vhost-user socket is made", spelling);

const { entries: disk } = DiskConfig;
/** What an image has beside its path. */
const image = {
  ...{ readonly: disk.readonly, direct: disk.direct, sparse: disk.sparse, wce: disk.wce },
  ...{ num_queues: disk.num_queues, queue_size: disk.queue_size, serial: disk.serial },
  ...{ image_type: disk.image_type, backing_files: disk.backing_files },
  rate_limiter_config: disk.rate_limiter_config,
};

const { entries: net } = NetConfig;
/** What a network interface has that no machine is needed for. */
const tap = {
  ...{ tap: net.tap, ip: net.ip, mask: net.mask, host_mac: net.host_mac, mtu: net.mtu },
  ...{ num_queues: net.num_queues, queue_size: net.queue_size, fds: net.fds },
  ...{ offload_tso: net.offload_tso, offload_ufo: net.offload_ufo },
  ...{ offload_csum: net.offload_csum, rate_limiter_config: net.rate_limiter_config },
};
/** The same without defaults: several options make one interface, and another of them may have the key. */
const withoutDefaults = Object.fromEntries(
  Object.entries(tap).map(([key, { wrapped }]) => [key, v.optional<v.GenericSchema>(wrapped)]),
);

export const BlockBackendSchema = v.object({
  socket: socket(),
  image: field(v.object({ path: path("Disk image or block device"), ...image }), "Disk image", {
    bare: "path",
  }),
});

const tapOption = (bare: keyof typeof tap, description: string) =>
  v.optional(field(v.object(withoutDefaults), description, { bare }));

export const NetBackendSchema = v.object({
  socket: socket(),
  tap: tapOption("tap", "Tap interface; made if there is none"),
  ip: tapOption("ip", "The same, beginning with the address of a tap that is made"),
  mask: tapOption("mask", "The same, beginning with its mask"),
});

/** As options of plain `chv`, which then runs a backend in place of a machine. */
export const BackendOptionsSchema = v.object({
  blockBackend: v.optional(
    field(
      v.object({
        path: path("Disk image or block device", { key: "image", aliases: ["path"] }),
        socket: socket({ key: "sock", aliases: ["socket"] }),
        ...image,
      }),
      "Run a block device's backend behind a vhost-user socket, and no machine",
    ),
  ),
  netBackend: v.optional(
    field(
      v.object({ socket: socket({ key: "sock", aliases: ["socket"] }), ...tap }),
      "Run a network interface's backend behind a vhost-user socket, and no machine",
    ),
  ),
});
