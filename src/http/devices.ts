/** The operations on a VM's devices. Before it boots they edit its configuration. */
import * as v from "valibot";
import { ConfigError } from "../exit-codes.ts";
import {
  DeviceConfig,
  DiskConfig,
  FsConfig,
  NetConfig,
  PmemConfig,
  VsockConfig,
} from "../machine/config/devices.ts";
import type { VmConfig } from "../machine/config/vm.ts";
import { VmmError } from "../machine/vmm/errors.ts";
import { listMax } from "./body.ts";
import { ApiError } from "./errors.ts";
import { type Context, type Operation, operation } from "./operation.ts";

export const deviceOperations: Readonly<Record<string, Operation>> = {
  "vm.add-disk": operation({
    ...{ method: "put", summary: "Add a disk", body: DiskConfig },
    run: (context, body) => add(context, "disks", body),
  }),
  "vm.add-net": operation({
    ...{ method: "put", summary: "Add a network interface", body: NetConfig },
    run: (context, body) => addNet(context, body),
  }),
  "vm.add-fs": operation({
    ...{ method: "put", summary: "Add a shared file system", body: FsConfig },
    run: (context, body) => add(context, "fs", body),
  }),
  "vm.add-pmem": operation({
    ...{ method: "put", summary: "Add persistent memory", body: PmemConfig },
    run: (context, body) => add(context, "pmem", body),
  }),
  "vm.add-device": operation({
    ...{ method: "put", summary: "Add a host device", body: DeviceConfig },
    run: (context, body) => add(context, "devices", body),
  }),
  "vm.add-vsock": operation({
    ...{ method: "put", summary: "Add a socket device", body: VsockConfig },
    run: ({ vmm }, vsock) => {
      if (vmm.guest) throw hotPlug();
      return vmm.edit((config) => {
        if (config.vsock) throw new ConfigError("vsock: the VM has one already; remove it first");
        return { ...config, vsock };
      });
    },
  }),
  "vm.remove-device": operation({
    ...{ method: "put", summary: "Remove a device by its id" },
    body: v.object({ id: v.string() }),
    run: ({ vmm }, { id }) => {
      if (vmm.guest) throw hotPlug();
      return vmm.edit((config) => without(config, id));
    },
  }),
};

/** Appends a device to a list of the configuration, before the VM boots. */
const add = <K extends "disks" | "net" | "fs" | "pmem" | "devices">(
  { vmm }: Context,
  list: K,
  device: NonNullable<VmConfig[K]>[number],
): Promise<void> => {
  if (vmm.guest) throw hotPlug();
  return vmm.edit((config) => withDevice(config, list, device));
};

function withDevice(config: VmConfig, list: keyof VmConfig, device: object): VmConfig {
  const devices = (config[list] ?? []) as readonly object[];
  if (devices.length >= listMax) throw new ConfigError(`${list}: ${listMax} are there; remove one`);
  return { ...config, [list]: [...devices, device] };
}

const hotPlug = () =>
  new VmmError("unbuilt", "Devices of a running VM cannot be changed in this version of chv");

/** Descriptors that come with the request are the taps; numbers in the body are the sender's own and mean nothing. */
function addNet(context: Context, body: NonNullable<VmConfig["net"]>[number]): Promise<void> {
  const { vmm, fds } = context;
  const { fds: _theirs, ...net } = body;
  if (fds.count === 0) return add(context, "net", net);
  if (vmm.guest) throw hotPlug();
  if (fds.count * 2 !== body.num_queues) {
    const why = `${fds.count} descriptors came for num_queues=${body.num_queues}`;
    throw new ApiError(400, `net: ${why}; send one for each pair of queues`);
  }
  const added = { ...net, fds: [...fds.numbers] };
  return vmm.edit(
    (config) => withDevice(config, "net", added),
    () => fds.take(),
  );
}

/** The configuration without the device of that id. Throws ApiError when there is none. */
function without(config: VmConfig, id: string): VmConfig {
  const lists = ["disks", "net", "fs", "pmem", "devices"] as const;
  for (const list of lists) {
    const devices = config[list] as readonly { id?: string }[] | undefined;
    if (!devices?.some((device) => device.id === id)) continue;
    return { ...config, [list]: devices.filter((device) => device.id !== id) };
  }
  if (config.vsock?.id === id) return { ...config, vsock: undefined };
  throw new ApiError(404, `No device has the id ${id}`);
}
