/** Opens the far ends of the console devices, and says what virtio devices they are. */
import {
  type ConsoleDeviceSpec,
  consoleConfig,
  consoleFeatures,
  consoleQueueSizes,
} from "../../devices/virtio/console-config.ts";
import { DeviceType, Feature } from "../../devices/virtio/registers.ts";
import type { VmConfig } from "../config/vm.ts";
import type { Consoles } from "../console/consoles.ts";
import { loadSize } from "../console/size.ts";
import type { ConsoleSpec, FarEndSpec } from "../console/spec.ts";
import type { VirtioDevice } from "./spec.ts";

/** The console, hvc0; none when it is off. Throws ConfigError. */
export function openConsoleDevice(config: VmConfig["console"], consoles: Consoles): VirtioDevice[] {
  const end = consoles.openConsole("--console", config);
  if (!end) return [];
  return [describe("__console", "--console", { ports: [], terminal: terminalOf([end]) }, [end])];
}

/** The device of the ports with names; none when there are no ports. Throws ConfigError naming the port. */
export function openPortsDevice(config: VmConfig["ports"], consoles: Consoles): VirtioDevice[] {
  if (config === undefined || config.length === 0) return [];
  const ends = config.map((port) => {
    const option = `--port ${port.name}`;
    return (port.console ? consoles.openConsole(option, port) : consoles.openEnd(option, port))!;
  });
  const ports = config.map(({ name, console }) => ({ name, console }));
  return [describe("__ports", "--port", { ports, terminal: terminalOf(ends) }, ends)];
}

/** The first far end that is a terminal: there is one at most. */
function terminalOf(ends: readonly FarEndSpec[]): ConsoleDeviceSpec["terminal"] {
  const port = ends.findIndex(({ size }) => size !== undefined);
  return port < 0 ? undefined : { port, ...loadSize(ends[port]!.size!) };
}

function describe(
  id: string,
  label: string,
  spec: ConsoleDeviceSpec,
  ends: readonly (ConsoleSpec | FarEndSpec)[],
): VirtioDevice {
  const config = consoleConfig(spec);
  return {
    id,
    label,
    identity: {
      type: DeviceType.console,
      featuresLow:
        consoleFeatures(spec) + 2 ** Feature.RING_INDIRECT_DESC + 2 ** Feature.RING_EVENT_IDX,
      featuresHigh: 2 ** (Feature.VERSION_1 - 32),
      queueSizes: consoleQueueSizes(spec),
    },
    config,
    writable: new Uint8Array(config.length),
    backend: { kind: "console", spec, ends },
  };
}
