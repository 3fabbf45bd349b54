/** docs/memory-map.md against the constants that it describes, and against what the board maps. */
import { afterAll, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ByteRing } from "../../src/bus/byte-ring.ts";
import { EventRing } from "../../src/bus/event-ring.ts";
import { MmioBus } from "../../src/bus/mmio-bus.ts";
import { PortBus } from "../../src/bus/port-bus.ts";
import { BootLayout } from "../../src/firmware/boot-layout.ts";
import { buildBoard } from "../../src/machine/board.ts";
import { Gsi, MemoryMap, Port, resetValue } from "../../src/machine/memory-map.ts";
import type { MachineSpec } from "../../src/machine/spec.ts";
import { stateBytes } from "../../src/machine/spec.ts";

const page = readFileSync(join(import.meta.dir, "../../docs/memory-map.md"), "utf8");

interface Row {
  readonly from: number;
  /** Exclusive; undefined where the table has none. */
  readonly end: number | undefined;
  readonly what: string;
  /** The cells behind `what`. */
  readonly more: readonly string[];
}

/** The rows of the table under a heading. */
function rows(heading: string): Row[] {
  const section = page.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  return [...section!.matchAll(/^\| (0x[0-9a-f]+) \| (0x[0-9a-f]+)? ?\| (.*) \|$/gm)].map(
    ([, from, to, rest]) => {
      const [what, ...more] = rest!.split("|").map((cell) => cell.trim());
      const end = to === undefined ? undefined : Number(to) + 1;
      return { from: Number(from), end, what: what!, more };
    },
  );
}

/** Fails unless each row's last cell says, in names of `constants`, what its numbers are; and all names are there. */
function compare(table: readonly Row[], constants: Readonly<Record<string, number>>): void {
  const value = (word: string) => (/^\d/.test(word) ? Number(word) : constants[word]);
  const named = new Set<string>();
  for (const { from, end, more } of table) {
    const words = [...more.at(-1)!.matchAll(/`(\w+)`/g)].map(([, word]) => word!);
    const [first, second] = words;
    for (const word of words) named.add(word);
    const length = more.at(-1)!.endsWith("bytes");
    expect([first, value(first!)]).toEqual([first, from]);
    if (second === undefined) continue;
    expect([words, length ? from + value(second)! : value(second)]).toEqual([words, end]);
  }

  expect(table.length).toBeGreaterThan(0);
  expect(Object.keys(constants).filter((name) => !named.has(name))).toEqual([]);
}

test("every guest-physical address is the constant's, and none is missing", () => {
  compare(rows("Guest-physical memory"), MemoryMap);
});

test("every address of the loaders' tables is the constant's, and none is missing", () => {
  compare(rows("The loaders' tables"), BootLayout);
});

test("every port is the constant's, and none is missing", () => {
  compare(rows("I/O ports"), Port);
});

test("pins and the reset value are the constants'", () => {
  const pins = rows("I/O ports").flatMap(({ more }) => [
    ...more[0]!.matchAll(/(\d+) \(`(\w+)`\)/g),
  ]);
  const all = Object.fromEntries(pins.map(([, pin, name]) => [name, Number(pin)]));
  const count = Number(/IOAPIC has (\d+) pins/.exec(page)![1]);
  const reset = Number(/reset register: (\d+) resets/.exec(page)![1]);

  expect({ ...all, pins: count }).toEqual(Gsi);
  expect(reset).toBe(resetValue);
});

describe("the board", () => {
  const ports = spyOn(PortBus.prototype, "map");
  const mmio = spyOn(MmioBus.prototype, "map");

  beforeAll(() => {
    const ring = () => new SharedArrayBuffer(ByteRing.bytesFor(64));
    const events = new SharedArrayBuffer(EventRing.byteLength);
    const none = { outFd: -1, inFd: -1, listenFd: -1, escapeKeys: false, outBlocks: false };
    const spec: MachineSpec = {
      ...{ vmFd: -1, vcpuFds: [], runPageBytes: 0, syncRegs: false, ram: [] },
      ...{ state: new SharedArrayBuffer(stateBytes), events, control: new SharedArrayBuffer(64) },
      serial: { name: "serial", mode: "null", ...none, output: ring(), input: ring() },
      ...{ virtio: [], ioWakeFd: -1, rtcTimerFd: -1, watchdogTimerFd: -1 },
    };
    buildBoard(spec, new EventRing(events, 0));
  });
  afterAll(() => {
    ports.mockRestore();
    mmio.mockRestore();
  });

  /** Each address of ranges given as start and length. */
  const addresses = (ranges: readonly (readonly [number, number])[]) =>
    ranges.flatMap(([start, length]) => Array.from({ length }, (_, i) => start + i)).toSorted();
  test("answers at the ports of the table, and at no other", () => {
    const told = rows("I/O ports").map(({ from, end }) => [from, end! - from] as const);

    expect(addresses(ports.mock.calls.map(([, port, length]) => [port, length]))).toEqual(
      addresses(told),
    );
  });

  test("maps MMCONFIG and the IOAPIC where the table has them", () => {
    const told = rows("Guest-physical memory").map(({ from, end }) => `${from}-${end}`);
    const mapped = mmio.mock.calls.map(([, start, length]) => `${start}-${start + length}`);

    expect(mapped.length).toBe(2);
    expect(told).toEqual(expect.arrayContaining(mapped));
  });
});
