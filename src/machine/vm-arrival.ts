/**
 * The VM comes last: main makes it while the vCPUs' threads build their boards, which know it by these numbers alone.
 * Who needs one waits here, and not for a message, so that no thread goes back to its event loop.
 */
import type { MachineSpec } from "./spec.ts";

/** What a spec has of the VM. */
export type VmNumbers = Pick<MachineSpec, "vmFd" | "vcpuFds" | "runPageBytes" | "syncRegs">;
/** A machine before its VM is there. */
export type EarlySpec = Omit<MachineSpec, keyof VmNumbers>;

const [state, vmFd, runPageBytes, syncRegs, firstVcpu] = [0, 1, 2, 3, 4];
const states = { awaited: 0, there: 1, abandoned: 2 } as const;

export class VmArrival {
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(readonly buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer);
  }

  static bytesFor(vcpus: number): number {
    return (firstVcpu + vcpus) * 4;
  }

  /** For main: the threads go on. */
  tell(numbers: VmNumbers): void {
    const words = this.#words;
    words[vmFd] = numbers.vmFd;
    words[runPageBytes] = numbers.runPageBytes;
    words[syncRegs] = numbers.syncRegs ? 1 : 0;
    words.set(numbers.vcpuFds, firstVcpu);
    this.#end(states.there);
  }

  /** For main: whoever still waits is to wait no more. */
  abandon(): void {
    this.#end(states.abandoned);
  }

  /** A machine as its thread has it: who looks for the VM before it is there waits. */
  complete(early: EarlySpec): MachineSpec {
    const spec = { ...early } as MachineSpec;
    for (const name of ["vmFd", "vcpuFds", "runPageBytes", "syncRegs"] as const) {
      Object.defineProperty(spec, name, {
        configurable: true,
        get: () => {
          for (const [one, value] of Object.entries(this.#wait())) {
            Object.defineProperty(spec, one, { value });
          }
          return spec[name];
        },
      });
    }
    return spec;
  }

  /** Throws when no VM will come. */
  #wait(): VmNumbers {
    const words = this.#words;
    const { awaited, abandoned } = states;
    while (Atomics.load(words, state) === awaited) Atomics.wait(words, state, awaited);
    if (Atomics.load(words, state) === abandoned) throw new Error("the machine has no VM");
    return {
      vmFd: words[vmFd]!,
      vcpuFds: [...words.subarray(firstVcpu)],
      runPageBytes: words[runPageBytes]!,
      syncRegs: words[syncRegs] === 1,
    };
  }

  #end(reason: number): void {
    Atomics.compareExchange(this.#words, state, states.awaited, reason);
    Atomics.notify(this.#words, state);
  }
}
