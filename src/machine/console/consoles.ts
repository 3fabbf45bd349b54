/** The far ends of one machine's character devices, as the main thread keeps them. */
import { ByteRing } from "../../bus/byte-ring.ts";
import type { Owned } from "../owned.ts";
import { type FarEndConfig, type OpenConsole, openConsole } from "./open.ts";
import type { ConsoleSpec, FarEndSpec, SerialSpec } from "./spec.ts";
import { createTyped } from "./typed.ts";

const serialOutputBytes = 64 * 1024;
const serialInputBytes = 4096;
/** What is kept of another console's output, for those who ask what it said last. */
const recentBytes = 256 * 1024;

const ring = (bytes: number) => new SharedArrayBuffer(ByteRing.bytesFor(bytes));

/** A pty that a user may open. */
export interface PtyPath {
  /** The option that asked for it: "--console". */
  readonly option: string;
  readonly path: string;
}

export class Consoles {
  readonly #open: OpenConsole[] = [];
  /** Those that show what the guest's kernel says. */
  readonly shown: ConsoleSpec[] = [];
  readonly ptys: PtyPath[] = [];

  constructor(readonly owned: Owned) {}

  /** The serial port's; undefined when that is off. Throws ConfigError. */
  openSerial(config: FarEndConfig): SerialSpec | undefined {
    const end = this.openEnd("--serial", config);
    if (!end) return undefined;
    const rings = { output: ring(serialOutputBytes), input: ring(serialInputBytes) };
    const spec = { ...end, ...rings, typed: createTyped(this.owned) };
    this.shown.push(spec);
    return spec;
  }

  /** A virtio console's; undefined when that is off. Throws ConfigError. */
  openConsole(option: string, config: FarEndConfig): ConsoleSpec | undefined {
    const end = this.openEnd(option, config);
    if (!end) return undefined;
    const spec = { ...end, output: ring(recentBytes), typed: createTyped(this.owned) };
    this.shown.push(spec);
    return spec;
  }

  /** One that is no console. Throws ConfigError naming the option. */
  openEnd(option: string, config: FarEndConfig): FarEndSpec | undefined {
    const end = openConsole(option, config);
    if (!end) return undefined;
    this.owned.add(() => end.close());
    this.#open.push(end);
    if (end.path !== undefined) this.ptys.push({ option, path: end.path });
    return end.spec;
  }

  /** The terminal's window has another size. */
  resized(): void {
    for (const end of this.#open) end.resized();
  }

  /** Gives a terminal its mode back; at any time, any number of times. */
  restore(): void {
    for (const end of this.#open) end.restore();
  }
}
