/** The worker threads of one machine, as the main thread sees them: started early, asked, waited for. */
import { Ask, ThreadControl, ThreadState } from "../bus/thread-control.ts";
import { times } from "../bus/times.ts";
import { ringBell } from "../devices/chores/chore-ring.ts";
import { signalEventfd } from "../ffi/eventfd.ts";
import { kick } from "../ffi/signals.ts";
import { choreWorkerUrl, firstVcpuWorkerUrl, ioWorkerUrl, vcpuWorkerUrl } from "../workers.ts";
import type { ChoreThreadSpec } from "./chore-thread.ts";
import { type LoadAnswer, type LoadOrder, notesOf } from "./loading.ts";
import { takeSpareThread } from "./spare-thread.ts";
import { ioWakeFd, ioWorkers, type MachineSpec, ThreadNumber, threadName } from "./spec.ts";
import type { VcpuOrder } from "./vcpu-thread.ts";
import { type EarlySpec, VmArrival } from "./vm-arrival.ts";

/** Far above what a thread needs, even on a crowded host with 254 of them. */
const patienceMs = 60_000;

/** A thread that has been started. */
interface Thread {
  /** As in events. */
  readonly number: number;
  readonly worker: Worker;
  readonly control: ThreadControl;
  /** Has it look at what it is asked. */
  readonly wake: () => void;
}

export class MachineThreads {
  readonly control: SharedArrayBuffer;
  readonly #arrival: VmArrival;
  readonly #vcpus: Thread[];
  readonly #io: Thread[] = [];
  readonly #chores: Thread[] = [];
  /** By it the first vCPU's thread, which has left its event loop, is told what to load. */
  readonly #orders = new MessageChannel();
  #spec: MachineSpec | undefined;
  /** What I/O workers are to do, also those that have not started. */
  #ioAsked: number = Ask.run;

  /** Starts the vCPUs' threads at once: they load their code while the main thread sets the machine up. */
  constructor(
    readonly vcpus: number,
    /** Told the thread's number, as in events, when its worker ends on an error of the runtime. */
    readonly onDeath: (thread: number, why: string) => void,
  ) {
    this.control = new SharedArrayBuffer(ThreadControl.bytesFor(ThreadNumber.end(vcpus)));
    this.#arrival = new VmArrival(new SharedArrayBuffer(VmArrival.bytesFor(vcpus)));
    this.#vcpus = times(vcpus, (index) => {
      const spare = index === 0 ? takeSpareThread() : undefined;
      const url = index === 0 ? firstVcpuWorkerUrl : vcpuWorkerUrl;
      const worker = spare ?? new Worker(url, { name: `vcpu${index}` });
      const wake = ({ threadId }: ThreadControl) => threadId !== 0 && kick(threadId);
      return this.#start(ThreadNumber.vcpu(index), worker, wake);
    });
  }

  #start(number: number, worker: Worker, wake: (control: ThreadControl) => void): Thread {
    const control = new ThreadControl(this.control, number);
    worker.onerror = ({ message }) => {
      control.say(ThreadState.failed); // it cannot say so itself
      this.onDeath(number, message);
    };
    return { number, worker, control, wake: () => wake(control) };
  }

  /** The first vCPU's thread loads; resolves to lines for the log. Rejects with ConfigError. Before `assign`. */
  async load(order: LoadOrder): Promise<readonly string[]> {
    const { worker } = this.#vcpus[0]!;
    const answer = this.#answer(worker);
    worker.postMessage({ order });
    return notesOf(await answer);
  }

  /** The same again, after a reset. The vCPUs must stand still, and do so afterwards. */
  async loadAnew(order: LoadOrder): Promise<readonly string[]> {
    const first = this.#vcpus[0]!;
    const answer = this.#answer(first.worker);
    this.#orders.port1.postMessage(order);
    ask(first, Ask.load);
    // it takes the time that it takes, and its answer is on the way when it has parked
    const state = await first.control.reaches([ThreadState.parked], Number.POSITIVE_INFINITY);
    if (state !== ThreadState.parked) throw new Error("vcpu0 has failed and did not load");
    return notesOf(await answer);
  }

  #answer(worker: Worker): Promise<LoadAnswer> {
    const { promise, resolve, reject } = Promise.withResolvers<LoadAnswer>();
    worker.onmessage = ({ data }: MessageEvent<LoadAnswer>) => resolve(data);
    worker.addEventListener("error", ({ message }) => reject(new Error(message)), { once: true });
    promise.catch(() => {}); // whoever awaits it may have failed before
    return promise;
  }

  /** Hands the machine to the vCPUs' threads, which build their boards and wait for the VM. */
  assign(spec: EarlySpec): void {
    const arrival = this.#arrival.buffer;
    const { port2: orders } = this.#orders;
    for (const [index, { worker }] of this.#vcpus.entries()) {
      const order: VcpuOrder = { spec, index, arrival };
      if (index === 0) worker.postMessage({ ...order, orders }, [orders]);
      else worker.postMessage(order);
    }
  }

  /** The machine's VM is there: each vCPU parks when it is ready. */
  vmArrived(spec: MachineSpec): void {
    this.#spec = spec;
    this.#arrival.tell(spec);
  }

  /**
   * Starts the I/O workers, once. That the guest has been entered is early enough: what it says before they are ready
   * waits in the rings, and their start does not take time from the way to the first KVM_RUN.
   */
  startIo(): void {
    if (this.#io.length > 0) return;
    const spec = this.#spec!;
    for (let index = 0; index < ioWorkers(spec); index++) {
      const worker = new Worker(ioWorkerUrl, { name: `io${index}` });
      const wakeFd = ioWakeFd(spec, index);
      const wake = () => signalEventfd(wakeFd);
      const io = this.#start(ThreadNumber.io(this.vcpus, index), worker, wake);
      this.#io.push(io);
      ask(io, this.#ioAsked);
      worker.postMessage({ spec, index });
    }
  }

  /** Starts the thread that does the chores of a share of the device with that id; it has asked for it. */
  startChores(id: string, share: number): void {
    const { virtio, virtioMmio = [], control, events } = this.#spec!;
    const device = [...virtio, ...virtioMmio].find((other) => other.id === id);
    const chores = device?.chores?.[share];
    if (!chores) throw new Error(`${id} has no chores`);
    const number = ThreadNumber.chores(this.vcpus, this.#chores.length);
    const name = threadName(number, this.vcpus);
    const worker = new Worker(choreWorkerUrl, { name });
    this.#chores.push(this.#start(number, worker, () => ringBell(chores.buffer)));
    const message: ChoreThreadSpec = { chores, control, events, number, name };
    worker.postMessage(message);
  }

  /** A thread that backends need has died: what they had in flight may never end. */
  get failed(): boolean {
    const threads = [...this.#io, ...this.#chores];
    return threads.some(({ control }) => control.state === ThreadState.failed);
  }

  runVcpus(): void {
    for (const vcpu of this.#vcpus) ask(vcpu, Ask.run);
  }

  /** Resolves when every vCPU stands outside KVM_RUN with nothing half done. */
  async parkVcpus(): Promise<void> {
    for (const vcpu of this.#vcpus) ask(vcpu, Ask.park);
    await this.#all(this.#vcpus, [ThreadState.parked], "stop");
  }

  /** Resolves when every I/O worker stands still with nothing in flight. The vCPUs must. */
  async parkIo(): Promise<void> {
    this.#ioAsked = Ask.park;
    this.startIo();
    for (const io of this.#io) ask(io, Ask.park);
    await this.#all(this.#io, [ThreadState.parked], "stop");
  }

  /**
   * Resolves when no access is half done and no request in flight; `vcpusStopped` is called on the way. Where a thread
   * does not stop, those of a machine that was `running` go on.
   */
  async standStill(running: boolean, vcpusStopped: () => void = () => {}): Promise<void> {
    try {
      await this.parkVcpus();
      vcpusStopped();
      await this.parkIo();
    } catch (error) {
      if (running) this.runIo();
      if (running) this.runVcpus();
      throw error;
    }
  }

  runIo(): void {
    this.#ioAsked = Ask.run;
    this.startIo();
    for (const io of this.#io) ask(io, Ask.run);
  }

  /**
   * Resolves when every thread has said that it is out and holds nothing. The vCPUs first: what they said last is still
   * in the rings when the I/O worker takes its leave. Those who do chores for it last.
   */
  async leave(): Promise<void> {
    for (const threads of [this.#vcpus, this.#io, this.#chores]) {
      for (const thread of threads) ask(thread, Ask.leave);
      await this.#all(threads, [ThreadState.gone, ThreadState.failed], "end");
    }
  }

  /** Ends the runtime's side of the threads, for a process that goes on. */
  async terminate(): Promise<void> {
    this.#arrival.abandon();
    const threads = [...this.#vcpus, ...this.#io, ...this.#chores];
    await Promise.all(threads.map(({ worker }) => worker.terminate()));
    this.#orders.port1.close();
  }

  async #all(threads: readonly Thread[], states: readonly number[], what: string): Promise<void> {
    for (const { number, control } of threads) {
      const state = await control.reaches(states, patienceMs);
      const name = threadName(number, this.vcpus);
      if (state === undefined) throw new Error(`${name} did not ${what} within ${patienceMs} ms`);
      if (!states.includes(state)) throw new Error(`${name} has failed and did not ${what}`);
    }
  }
}

/** The word first, then the wake-up: a thread that has not started yet reads the word before it runs. */
function ask({ control, wake }: Thread, what: number): void {
  control.ask(what);
  wake();
}
