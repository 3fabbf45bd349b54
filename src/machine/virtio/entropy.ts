/** Opens the source of the entropy device, and says what virtio device it is. */
import { entropyQueueSize } from "../../devices/virtio/entropy-config.ts";
import { DeviceType, Feature } from "../../devices/virtio/registers.ts";
import { ConfigError } from "../../exit-codes.ts";
import { Open, open } from "../../ffi/file.ts";
import { statusOf } from "../../ffi/file-status.ts";
import { SystemError } from "../../ffi/libc.ts";
import type { VmConfig } from "../config/vm.ts";
import type { Owned } from "../owned.ts";
import type { VirtioDevice } from "./spec.ts";

/** What it opened is `owned`. Throws ConfigError. */
export function openEntropy({ src }: VmConfig["rng"], owned: Owned): VirtioDevice {
  const label = `--rng ${src}`;
  const fail = (why: string) =>
    new ConfigError(`${label}: ${why}; name one that chv may read, such as /dev/urandom`, "--rng");
  let fd: number;
  try {
    fd = owned.fd(open(src, Open.readOnly | Open.nonBlock | Open.noControllingTerminal));
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    throw fail(error.reason);
  }
  if (statusOf(fd).kind === "folder") throw fail("a folder is no source of entropy");
  return {
    id: "__rng",
    label,
    identity: {
      type: DeviceType.entropy,
      featuresLow: 2 ** Feature.RING_INDIRECT_DESC + 2 ** Feature.RING_EVENT_IDX,
      featuresHigh: 2 ** (Feature.VERSION_1 - 32),
      queueSizes: [entropyQueueSize],
    },
    config: new Uint8Array(0),
    writable: new Uint8Array(0),
    backend: { kind: "entropy", spec: { fd } },
  };
}
