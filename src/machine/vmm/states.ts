/**
 * The life of the one VM of a process: its states, and which operation is allowed in which. One table, which the API's
 * tests walk.
 */
import { VmmError } from "./errors.ts";

/** As `vm.info` says them; "None" is a process without a VM. */
export const vmStates = ["None", "Created", "Running", "Paused", "Shutdown"] as const;
export type VmState = (typeof vmStates)[number];

/** The state in which an allowed operation leaves the VM; `null`: as it was. */
type Row = Partial<Record<VmState, VmState | null>>;

const whenThere = (running: null): Row => ({
  ...{ Created: null, Shutdown: null },
  ...{ Running: running, Paused: running },
});

/** Operation → states that allow it → state afterwards. What is not here is refused. */
export const transitions = {
  create: { None: "Created" },
  boot: { Created: "Running", Shutdown: "Running", Paused: "Running" },
  info: whenThere(null),
  counters: { Running: null, Paused: null },
  pause: { Running: "Paused" },
  resume: { Paused: "Running" },
  shutdown: { Running: "Shutdown", Paused: "Shutdown" },
  reboot: { Running: "Running", Paused: "Running" },
  delete: { None: "None", Created: "None", Running: "None", Paused: "None", Shutdown: "None" },
  "power-button": { Running: null },
  nmi: { Running: null },
  "resize-disk": { Running: null, Paused: null },
  /** Before it boots; a running machine is changed by hot-plug. */
  edit: { Created: null, Shutdown: null },
} as const satisfies Record<string, Row>;

export type Operation = keyof typeof transitions;

/** Throws VmmError when the state does not allow the operation. */
export function allow(operation: Operation, state: VmState): void {
  const row: Row = transitions[operation];
  if (state in row) return;
  if (state === "None") throw new VmmError("absent", "There is no VM; create one first");
  if (operation === "create") throw new VmmError("state", "There is a VM already; delete it first");
  const states = Object.keys(row).join(" or ");
  throw new VmmError("state", `The VM is ${state}; ${operation} needs one that is ${states}`);
}
