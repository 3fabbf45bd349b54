import { afterAll, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { type Guest, guestTimeoutMs, startGuest } from "./harness.ts";

const ksm = "/sys/kernel/mm/ksm";
const setting = (name: string) => readFileSync(`${ksm}/${name}`, "utf8").trim();
const names = ["run", "pages_to_scan", "sleep_millisecs"];
const before = names.map(setting);

afterAll(() => {
  writeFileSync(`${ksm}/run`, "2"); // gives every page back its own
  for (const name of names.toReversed())
    writeFileSync(`${ksm}/${name}`, before[names.indexOf(name)]!);
});

/** How many of a process's pages are merged with others. */
const merged = ({ pid }: Guest): number =>
  Number(/ksm_merging_pages (\d+)/.exec(readFileSync(`/proc/${pid}/ksm_stat`, "utf8"))?.[1]);

/** Two guests that have the same program in their memory and wait for a byte. */
async function twoGuests(memory: string): Promise<[Guest, Guest]> {
  const cmdline = "test=reset method=i8042 count=2 hold=1";
  const start = () => startGuest({ guest: "suite", cmdline, memory });
  const guests = await Promise.all([start(), start()]);
  for (const guest of guests) await guest.until("boot 1\n");
  return guests;
}

test(
  "mergeable=on: the pages of two guests merge; without it none does",
  async () => {
    const [one, two] = await twoGuests("64M,mergeable=on");
    await using _one = one;
    await using _two = two;
    const [plain, other] = await twoGuests("64M");
    await using _plain = plain;
    await using _other = other;

    writeFileSync(`${ksm}/pages_to_scan`, "10000");
    writeFileSync(`${ksm}/sleep_millisecs`, "10");
    writeFileSync(`${ksm}/run`, "1");
    while (merged(one) < 10 || merged(two) < 10) await Bun.sleep(20);

    expect([merged(plain), merged(other)]).toEqual([0, 0]);
  },
  guestTimeoutMs,
);
