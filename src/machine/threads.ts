/** The worker threads of one machine, as the main thread sees them: started early, asked, waited for. */
import { Ask, ThreadControl, ThreadState } from "../bus/thread-control.ts";
import { signalEventfd } from "../ffi/eventfd.ts";
import { ignoreKick, kick } from "../ffi/signals.ts";
import { ioWorkerUrl, vcpuWorkerUrl } from "../workers.ts";
import { takeSpareThread } from "./spare-thread.ts";
import type { MachineSpec } from "./spec.ts";

/** Far above what a thread needs, even on a crowded host with 254 of them. */
const patienceMs = 60_000;

export class MachineThreads {
  readonly control: SharedArrayBuffer;
  readonly #workers: Worker[] = [];
  #controls: ThreadControl[] = [];
  #spec: MachineSpec | undefined;

  /** Starts the vCPUs' threads at once: they load their code while the main thread sets the machine up. */
  constructor(
    readonly vcpus: number,
    /** Told the thread's number, as in events, when its worker ends on an error of the runtime. */
    readonly onDeath: (thread: number, why: string) => void,
  ) {
    ignoreKick();
    this.control = new SharedArrayBuffer(ThreadControl.bytesFor(vcpus + 1));
    for (let index = 0; index < vcpus; index++) {
      const spare = index === 0 ? takeSpareThread() : undefined;
      this.#watch(spare ?? new Worker(vcpuWorkerUrl, { name: `vcpu${index}` }));
    }
  }

  #watch(worker: Worker): Worker {
    const thread = this.#workers.length;
    worker.onerror = ({ message }) => this.onDeath(thread, message);
    this.#workers.push(worker);
    return worker;
  }

  /** Hands the machine to the vCPUs' threads; each parks when it is ready. */
  assign(spec: MachineSpec): void {
    this.#spec = spec;
    this.#controls = Array.from(
      { length: this.vcpus + 1 },
      (_, thread) => new ThreadControl(this.control, thread),
    );
    for (const [index, worker] of this.#workers.entries()) worker.postMessage({ spec, index });
  }

  /**
   * vCPUs enter the guest. The I/O worker starts now: what the guest says before it is ready waits in the rings, and
   * its start does not take time from the way to the first KVM_RUN.
   */
  boot(): void {
    this.runVcpus();
    this.#ask(this.#ioControl, Ask.run);
    this.#watch(new Worker(ioWorkerUrl, { name: "io0" })).postMessage({ spec: this.#spec });
  }

  runVcpus(): void {
    for (const vcpu of this.#vcpuControls) this.#ask(vcpu, Ask.run);
  }

  /** Resolves when every vCPU stands outside KVM_RUN with nothing half done. */
  async parkVcpus(): Promise<void> {
    for (const vcpu of this.#vcpuControls) this.#ask(vcpu, Ask.park);
    await this.#all(this.#vcpuControls, [ThreadState.parked], "stop");
  }

  /**
   * Resolves when every thread has said that it is out and holds nothing. The vCPUs first: what they said last is still
   * in the rings when the I/O worker takes its leave.
   */
  async leave(): Promise<void> {
    const started = this.#controls.slice(0, this.#workers.length);
    for (const controls of [started.slice(0, this.vcpus), started.slice(this.vcpus)]) {
      for (const control of controls) this.#ask(control, Ask.leave);
      await this.#all(controls, [ThreadState.gone, ThreadState.failed], "end");
    }
  }

  /** Ends the runtime's side of the threads, for a process that goes on. */
  async terminate(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  get #vcpuControls(): ThreadControl[] {
    return this.#controls.slice(0, this.vcpus);
  }
  get #ioControl(): ThreadControl {
    return this.#controls[this.vcpus]!;
  }

  /** The word first, then the wake-up: a thread that has not started yet reads the word before it runs. */
  #ask(control: ThreadControl, what: number): void {
    control.ask(what);
    if (control === this.#ioControl) signalEventfd(this.#spec!.ioWakeFd);
    else if (control.threadId !== 0) kick(control.threadId);
  }

  async #all(controls: ThreadControl[], states: readonly number[], what: string): Promise<void> {
    for (const control of controls) {
      const state = await control.reaches(states, patienceMs);
      const number = this.#controls.indexOf(control);
      const name = number < this.vcpus ? `vcpu${number}` : "io0";
      if (state === undefined) throw new Error(`${name} did not ${what} within ${patienceMs} ms`);
      if (!states.includes(state)) throw new Error(`${name} has failed and did not ${what}`);
    }
  }
}
