/** The type of events, and docs/events.md. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { MachineEvent } from "../../src/sdk/index.ts";

type Name = MachineEvent extends infer E
  ? E extends { source: infer S extends string; event: infer N extends string }
    ? `${string extends S ? "DEVICE" : S}/${N}`
    : never
  : never;

/** As the compiler knows them. */
const names: Readonly<Record<Name, true>> = {
  "vmm/starting": true,
  "vmm/api-ready": true,
  "vmm/exit": true,
  "vm/created": true,
  "vm/deleted": true,
  "vm/booting": true,
  "vm/first-run": true,
  "vm/paused": true,
  "vm/resumed": true,
  "vm/shutdown": true,
  "vm/poweroff": true,
  "vm/reset": true,
  "vm/output-lost": true,
  "vm/failed": true,
  "guest/kernel": true,
  "guest/debug-code": true,
  "guest/userspace": true,
  "guest/panic": true,
  "guest/crash-loaded": true,
  "guest/login": true,
  "DEVICE/error": true,
};

test("the type has the events of docs/events.md", () => {
  const page = readFileSync(join(import.meta.dir, "../../docs/events.md"), "utf8");
  const rows = [...page.matchAll(/^\| (`(?:vmm|vm|guest)`|a device's id) \| (`[^|]*) \|/gm)];
  const told = rows.flatMap(([, source, events]) => {
    const from = source!.startsWith("`") ? source!.slice(1, -1) : "DEVICE";
    return [...events!.matchAll(/`([\w-]+)`/g)].map(([, event]) => `${from}/${event}`);
  });

  expect(told.toSorted()).toEqual(Object.keys(names).toSorted());
});
