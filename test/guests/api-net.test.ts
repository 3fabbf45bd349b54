/** A pod's tap by SCM_RIGHTS: it serves every boot of the VM, and goes with it. */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { close } from "../../src/ffi/file.ts";
import { bringUp } from "../../src/ffi/interface.ts";
import { attachTap, openTun } from "../../src/ffi/tap.ts";
import { DescriptorClient, whole } from "../http/descriptors.ts";
import { NetworkNamespace } from "../network/namespace.ts";
import { ApiProcess } from "./api.ts";
import { buildGuest } from "./build.ts";
import { guestTimeoutMs } from "./harness.ts";

const tap = "pod0";

/** How many descriptors of a process are queues of the tap, by fdinfo (proc_pid_fdinfo(5): `iff:`). */
function queues(pid: number): number {
  const folder = `/proc/${pid}/fdinfo`;
  const infos = readdirSync(folder).map((fd) => {
    try {
      return readFileSync(`${folder}/${fd}`, "utf8");
    } catch {
      return ""; // closed meanwhile
    }
  });
  return infos.filter((info) => info.includes(`iff:\t${tap}\n`)).length;
}

test(
  "a tap that came with vm.add-net is used at each boot, and closed with the VM",
  async () => {
    using namespace = new NetworkNamespace();
    const fd = namespace.run(() => {
      const queue = openTun();
      attachTap(queue, tap, false);
      bringUp(tap);
      return queue;
    });
    await using chv = await ApiProcess.start();
    const kernel = await buildGuest("pause");
    const payload = { kernel, cmdline: `count=${2 ** 40}` };
    const ends = { serial: { mode: "Null" }, console: { mode: "Off" } };
    await chv.put("vm.create", { payload, memory: { size: 64 * 2 ** 20 }, ...ends });

    using client = new DescriptorClient(chv.socket);
    const nic = { mac: "02:00:00:00:00:01", num_queues: 2, ip: "10.0.0.1", mask: "255.0.0.0" };
    client.send(whole("vm.add-net", nic), fd);
    expect(await client.answer()).toEqual({ status: 204, body: "" });
    close(fd); // Kata closes its own copy
    expect(queues(chv.pid)).toBe(1);

    for (const operation of ["vm.boot", "vm.reboot", "vm.shutdown", "vm.boot", "vm.reboot"]) {
      expect([operation, await chv.put(operation)]).toEqual([operation, 204]);
      expect(queues(chv.pid)).toBe(operation === "vm.shutdown" ? 1 : 2);
    }
    client.send(whole("vm.add-net", nic));
    expect((await client.answer()).status).toBe(501);

    expect(await chv.put("vm.delete")).toBe(204);
    expect(queues(chv.pid)).toBe(0);
  },
  guestTimeoutMs,
);

test(
  "a descriptor that is no tap's is refused by the boot, and the VM can be booted without it",
  async () => {
    await using chv = await ApiProcess.start();
    const payload = { kernel: await buildGuest("pause"), cmdline: `count=${2 ** 40}` };
    const ends = { serial: { mode: "Null" }, console: { mode: "Off" } };
    await chv.put("vm.create", { payload, memory: { size: 64 * 2 ** 20 }, ...ends });
    using client = new DescriptorClient(chv.socket);
    client.send(whole("vm.add-net", { id: "pod", num_queues: 2 }), 0);
    expect((await client.answer()).status).toBe(204);

    const { status, body } = await chv.ask("PUT", "vm.boot");
    expect(status).toBe(400);
    expect(JSON.parse(body)[1]).toMatch(/^--net fd=\[\d+\]: descriptor \d+ is not a tap's; /);
    expect(await chv.put("vm.remove-device", { id: "pod" })).toBe(204);
    expect(await chv.put("vm.boot")).toBe(204);
  },
  guestTimeoutMs,
);
