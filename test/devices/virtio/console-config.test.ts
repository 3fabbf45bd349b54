/** The console device's layouts and numbers against linux/virtio_console.h by the C compiler, and what it offers. */
import { expect, test } from "bun:test";
import * as console from "../../../src/devices/virtio/console-config.ts";
import { valuesInC } from "../../headers.ts";

test("layouts and numbers are the header's", () => {
  const claims = new Map<string, number>([
    // the emergency write is behind what there is here
    ["offsetof(struct virtio_console_config, emerg_wr)", console.VirtioConsoleConfig.size],
    ["sizeof(struct virtio_console_control)", console.VirtioConsoleControl.size],
  ]);
  for (const type of [console.VirtioConsoleConfig, console.VirtioConsoleControl]) {
    for (const [field, offset] of Object.entries(type.offsets)) {
      claims.set(`offsetof(struct ${type.structName}, ${field})`, offset);
    }
  }
  for (const [name, bit] of Object.entries(console.ConsoleFeature)) {
    claims.set(`VIRTIO_CONSOLE_F_${name}`, bit);
  }
  for (const [name, event] of Object.entries(console.ControlEvent)) {
    // Linux says "device" of what the specification calls a port
    claims.set(`VIRTIO_CONSOLE_${name}`, event);
  }

  const values = valuesInC(["linux/virtio_console"], [...claims.keys()]);
  expect(Object.fromEntries(claims)).toEqual(values);
});

const ports = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ name: `${i}`, console: false }));
const terminal = { port: 0, columns: 132, rows: 43 };

test("one port has two queues and offers a size where there is a terminal", () => {
  expect(console.consoleQueueSizes({ ports: [] })).toEqual([64, 64]);
  expect(console.consoleFeatures({ ports: [] })).toBe(0);
  expect(console.consoleFeatures({ ports: [], terminal })).toBe(1); // SIZE
  expect([...console.consoleConfig({ ports: [], terminal })]).toEqual([132, 0, 43, 0, 0, 0, 0, 0]);
});

test("several ports have two queues each, and two for control behind the first's", () => {
  expect(console.consoleQueueSizes({ ports: ports(1) }).length).toBe(4);
  expect(console.consoleQueueSizes({ ports: ports(8) }).length).toBe(18);
  expect(console.consoleFeatures({ ports: ports(1) })).toBe(2); // MULTIPORT
  expect(console.consoleFeatures({ ports: ports(2), terminal })).toBe(3);
  expect(console.consoleConfig({ ports: ports(8) })[4]).toBe(8);

  // section 5.3.2: 0 and 1 are port 0's, 2 and 3 control's, 4 and 5 port 1's
  const owners = Array.from({ length: 8 }, (_, queue) => console.portOfQueue(queue));
  expect(owners).toEqual([0, 0, -1, -1, 1, 1, 2, 2]);
  expect([0, 1, 2, 7].map(console.receiveQueueOf)).toEqual([0, 4, 6, 16]);
});
