/** While a kernel is unpacked, and when that fails, the API is there. */
import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ApiClient } from "../../src/http/client.ts";
import { bzImage } from "../firmware/images.ts";
import { ApiProcess } from "./api.ts";
import { buildGuest } from "./build.ts";
import { guestTimeoutMs } from "./harness.ts";

const MiB = 2 ** 20;

/** A bzImage that takes a while to unpack, and then is no kernel: so many times 96 MiB of zeroes. */
function slowKernel(folder: string, times = 4): string {
  const path = join(folder, "slow");
  const payload = Bun.gzipSync(new Uint8Array(times * 96 * MiB), { level: 1 });
  writeFileSync(path, bzImage(payload, { initSize: (times * 96 + 16) * MiB }));
  return path;
}

/**
 * Runs a test with kernels that take longer and longer, until this process has got as far as it wants while one is
 * unpacked: which of two processes is the quicker on a busy host says nothing of chv.
 */
async function inTime(test: (times: number) => Promise<boolean>): Promise<void> {
  for (let times = 4; !(await test(times)); times *= 2) {
    if (times >= largest) throw new Error("the API did not answer while a kernel was unpacked");
  }
}
const largest = 16;

const machine = (kernel: string) => ({
  payload: { kernel, cmdline: "count=1000000000000" },
  memory: { size: 2048 * MiB },
  serial: { mode: "Null" },
  console: { mode: "Off" },
});

test(
  "the API answers while a kernel is unpacked; one that fails then leaves nothing",
  () =>
    inTime(async (times) => {
      await using chv = await ApiProcess.start();
      const [first, second] = [new ApiClient(chv.socket), new ApiClient(chv.socket)];
      await first.call("put", "vm.create", machine(slowKernel(chv.folder, times)));
      const order: string[] = [];

      const boot = first.call("put", "vm.boot").catch((error: Error) => {
        order.push("vm.boot");
        return error.message;
      });
      await chv.tells("booting");
      expect(await second.call("get", "vm.info")).toMatchObject({ state: "Created" });
      order.push("vm.info");

      expect(await boot).toMatch(/--kernel .*slow.*ELF/);
      const early = order[0] === "vm.info";
      expect(await second.call("get", "vm.info")).toMatchObject({ state: "Created" });

      expect(await chv.put("vm.delete")).toBe(204);
      expect(await chv.put("vm.create", machine(await buildGuest("pause")))).toBe(204);
      expect(await chv.put("vm.boot")).toBe(204);
      expect((await chv.info()).state).toBe("Running");
      return early;
    }),
  guestTimeoutMs,
);

test(
  "the API answers while a reset unpacks a kernel, and by that kernel's end nothing runs",
  () =>
    inTime(async (times) => {
      await using chv = await ApiProcess.start();
      const [first, second] = [new ApiClient(chv.socket), new ApiClient(chv.socket)];
      const slow = readFileSync(slowKernel(chv.folder, times));
      const kernel = join(chv.folder, "kernel");
      const good = readFileSync(await buildGuest("pause"));
      writeFileSync(kernel, Buffer.concat([good, Buffer.alloc(slow.length - good.length)]));
      await first.call("put", "vm.create", machine(kernel));
      await first.call("put", "vm.boot");
      writeFileSync(kernel, slow); // the same file, of the same length
      const order: string[] = [];

      const reboot = first.call("put", "vm.reboot").catch((error: Error) => {
        order.push("vm.reboot");
        return error.message;
      });
      await chv.tells("reset");
      for (let i = 0; i < 3; i++) {
        const { state } = (await second.call("get", "vm.info")) as { state: string };
        order.push(state);
      }

      expect(await reboot).toMatch(/--kernel .*kernel.*ELF/);
      expect(await second.call("get", "vm.info")).toMatchObject({ state: "Shutdown" });
      return Bun.deepEquals(order, ["Running", "Running", "Running", "vm.reboot"]);
    }),
  guestTimeoutMs,
);

test(
  "a process that is told to end while it unpacks, ends",
  async () => {
    await using chv = await ApiProcess.start();
    const api = new ApiClient(chv.socket);
    await api.call("put", "vm.create", machine(slowKernel(chv.folder)));
    const boot = api.call("put", "vm.boot").catch(() => {});
    await chv.tells("booting");
    chv.kill("SIGTERM");

    expect((await chv.ended()).exitCode).toBe(0);
    await boot;
  },
  guestTimeoutMs,
);
