/** The life of a VM as the issue of the API gives it, written down by hand: every operation in every state. */
import { expect, test } from "bun:test";
import { VmmError } from "../../../src/machine/vmm/errors.ts";
import {
  allow,
  type Operation,
  transitions,
  type VmState,
} from "../../../src/machine/vmm/states.ts";

/** What comes of it: the state afterwards, "=" for none changed, or why it is refused. */
const table: Record<Operation, Record<VmState, string>> = {
  create: row("Created", "state", "state", "state", "state"),
  boot: row("absent", "Running", "state", "Running", "Running"),
  info: row("absent", "=", "=", "=", "="),
  counters: row("absent", "state", "=", "=", "state"),
  pause: row("absent", "state", "Paused", "state", "state"),
  resume: row("absent", "state", "state", "Running", "state"),
  shutdown: row("absent", "state", "Shutdown", "Shutdown", "state"),
  reboot: row("absent", "state", "Running", "Running", "state"),
  delete: row("None", "None", "None", "None", "None"),
  "power-button": row("absent", "state", "=", "state", "state"),
  nmi: row("absent", "state", "=", "state", "state"),
  "resize-disk": row("absent", "state", "=", "=", "state"),
  edit: row("absent", "=", "state", "state", "="),
};

function row(
  None: string,
  Created: string,
  Running: string,
  Paused: string,
  Shutdown: string,
): Record<VmState, string> {
  return { None, Created, Running, Paused, Shutdown };
}

const cases = Object.entries(table).flatMap(([operation, states]) =>
  Object.entries(states).map(([state, outcome]) => [operation, state, outcome] as const),
);

test.each(cases)("%s in state %s: %s", (operation, state, outcome) => {
  const allowed = transitions[operation as Operation] as Record<string, string | null>;
  try {
    allow(operation as Operation, state as VmState);
    expect(allowed[state] ?? "=").toBe(outcome);
  } catch (error) {
    if (!(error instanceof VmmError)) throw error;
    expect(error.refusal).toBe(outcome as typeof error.refusal);
  }
});
