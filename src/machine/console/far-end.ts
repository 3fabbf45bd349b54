/** The far end of a console device's port, as an I/O worker opens it. */
import type { CharacterDevice, FarEnd } from "../../bus/character.ts";
import type { EventRing } from "../../bus/event-ring.ts";
import { systemClock } from "../../ffi/clock.ts";
import type { Waiter } from "./input.ts";
import { ConsolePort } from "./port.ts";
import { RecentOutput } from "./rings.ts";
import type { ConsoleSpec, FarEndSpec } from "./spec.ts";

/** Of a console's output the last is kept for those who ask what the guest said. */
export function openFarEnd(
  spec: ConsoleSpec | FarEndSpec,
  device: CharacterDevice,
  waiter: Waiter,
  events: EventRing,
): FarEnd {
  if (!("output" in spec)) return new ConsolePort(spec, device, waiter, events);
  const shown: CharacterDevice = {
    output: new RecentOutput(device.output, spec.output),
    input: device.input,
    inputArrived: () => device.inputArrived(),
    transmitterReady: () => device.transmitterReady(),
    presenceChanged: (present) => device.presenceChanged?.(present),
    resized: (columns, rows) => device.resized?.(columns, rows),
  };
  return new ConsolePort(spec, shown, waiter, events, systemClock, true);
}
