/** The VM's numbers, on their way from one thread to another. */
import { expect, test } from "bun:test";
import { type EarlySpec, VmArrival } from "../../src/machine/vm-arrival.ts";

const early = { ioWakeFd: 7 } as EarlySpec;
const numbers = { vmFd: 11, vcpuFds: [12, 13, 14], runPageBytes: 12288, syncRegs: true };
const buffer = () => new SharedArrayBuffer(VmArrival.bytesFor(3));

test("a machine is complete when its VM has come", () => {
  const shared = buffer();
  const spec = new VmArrival(shared).complete(early);
  expect(spec.ioWakeFd).toBe(7); // without a wait

  new VmArrival(shared).tell(numbers);

  const { vmFd, vcpuFds, runPageBytes, syncRegs } = spec;
  expect({ vmFd, vcpuFds, runPageBytes, syncRegs }).toEqual(numbers);
  expect(Object.getOwnPropertyDescriptor(spec, "vmFd")).toMatchObject({ value: 11 });
});

test("who looks for the VM before waits for it, on another thread", async () => {
  const vm = buffer();
  const begun = new SharedArrayBuffer(4);
  const worker = new Worker(new URL("vm-arrival-worker.ts", import.meta.url).href);
  const answer = Promise.withResolvers<unknown>();
  worker.onmessage = ({ data }) => answer.resolve(data);
  worker.postMessage({ vm, begun });
  await Atomics.waitAsync(new Int32Array(begun), 0, 0).value;

  new VmArrival(vm).tell(numbers);

  expect(await answer.promise).toEqual([12, 13, 14]);
  await worker.terminate();
});

test("nobody waits for a VM that will not come, and one that is there stays", () => {
  const gone = buffer();
  new VmArrival(gone).abandon();
  const there = buffer();
  new VmArrival(there).tell(numbers);
  new VmArrival(there).abandon();

  expect(() => new VmArrival(gone).complete(early).vmFd).toThrow("no VM");
  expect(new VmArrival(there).complete(early).vmFd).toBe(11);
});
