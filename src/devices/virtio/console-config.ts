/**
 * The console device as its driver sees it (virtio 1.2 section 5.3; linux/virtio_console.h): what it is given, the
 * features that follow from that, its queues, its configuration space, and the messages of its control queues.
 */
import { struct, u16, u32 } from "../../ffi/struct.ts";

/** A port of a device with several. */
export interface ConsolePortSpec {
  /** Under this name the guest finds it. */
  readonly name: string;
  /** It is for a console of the guest (hvc1, …), not for a program of its own. */
  readonly console: boolean;
}

export interface ConsoleTerminal {
  readonly port: number;
  readonly columns: number;
  readonly rows: number;
}

/** A console device, as plain data. */
export interface ConsoleDeviceSpec {
  /** The ports of a device that has several (MULTIPORT); none: a device with one, which is a console. */
  readonly ports: readonly ConsolePortSpec[];
  /** The port that has a terminal (0 where there is one port), and its size to begin with; undefined without one. */
  readonly terminal?: ConsoleTerminal | undefined;
}

/** VIRTIO_CONSOLE_F_…, by number. */
export const ConsoleFeature = { SIZE: 0, MULTIPORT: 1 } as const;

/** struct virtio_console_config, up to the emergency write, which is not offered. */
export const VirtioConsoleConfig = struct("virtio_console_config", 8, {
  cols: u16,
  rows: u16,
  max_nr_ports: u32,
});

/** struct virtio_console_control, and VIRTIO_CONSOLE_…: what its event may be. */
export const VirtioConsoleControl = struct("virtio_console_control", 8, {
  id: u32,
  event: u16,
  value: u16,
});
export const ControlEvent = {
  DEVICE_READY: 0,
  PORT_ADD: 1,
  PORT_READY: 3,
  CONSOLE_PORT: 4,
  RESIZE: 5,
  PORT_OPEN: 6,
  PORT_NAME: 7,
} as const;

/** Two queues a port, and two for control: as many as a device may have. */
export const maxPorts = 8;
const portQueueSize = 64;
const controlQueueSize = 64;
const controlQueues = [2, 3] as const;
export const [controlReceiveQueue, controlTransmitQueue] = controlQueues;

/** The receive queue of a port; its transmit queue is the next (section 5.3.2). */
export const receiveQueueOf = (port: number): number => (port === 0 ? 0 : 2 + 2 * port);

/** The port that a queue belongs to; -1 for the control queues. */
export function portOfQueue(queue: number): number {
  if (queue < 2) return 0;
  return queue < 4 ? -1 : (queue >> 1) - 1;
}

/** The most entries of each queue. */
export function consoleQueueSizes({ ports }: ConsoleDeviceSpec): number[] {
  if (ports.length === 0) return [portQueueSize, portQueueSize];
  return Array.from({ length: 2 + 2 * ports.length }, (_, queue) =>
    portOfQueue(queue) < 0 ? controlQueueSize : portQueueSize,
  );
}

/** The device's own feature bits, 0 to 23. */
export function consoleFeatures({ ports, terminal }: ConsoleDeviceSpec): number {
  const bits: number[] = [];
  if (terminal) bits.push(ConsoleFeature.SIZE);
  if (ports.length > 0) bits.push(ConsoleFeature.MULTIPORT);
  return bits.reduce((sum, bit) => sum + 2 ** bit, 0);
}

/** Configuration space after a reset. */
export function consoleConfig({ ports, terminal }: ConsoleDeviceSpec): Uint8Array {
  const config = new VirtioConsoleConfig();
  config.cols = terminal?.columns ?? 0;
  config.rows = terminal?.rows ?? 0;
  config.max_nr_ports = ports.length;
  return new Uint8Array(config.view.buffer);
}

/** What the backend has done, by place in its counters: operations are buffers of the guest. */
export const ConsoleCounters = ["read_ops", "read_bytes", "write_ops", "write_bytes"] as const;
