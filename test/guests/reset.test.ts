import { describe, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { expectOk, guestTimeoutMs, runSuite, startGuest } from "./harness.ts";
import { namesOf, threadNames } from "./process.ts";

/** What a process holds, from /proc. */
async function holdings(pid: number) {
  const maps = await Bun.file(`/proc/${pid}/maps`).text();
  return {
    fds: (await readdir(`/proc/${pid}/fd`)).length,
    threads: threadNames(pid).length,
    /** The machine's own; the runtime's helpers come and go as it likes. */
    machineThreads: namesOf(pid, /^(vcpu|io|chv|kvm)/),
    /** Run pages, shared rings and guest RAM backed by files. */
    sharedMappings: maps.match(/^\S+ ..s./gm)?.length ?? 0,
    mappings: maps.split("\n").length,
  };
}

const own = ["io0", "vcpu0", "vcpu1"];

/** The same, once the machine's threads are there and nothing changes any more: a guest that waits for a byte. */
async function settled(pid: number) {
  let now = await holdings(pid);
  for (let looks = 0; looks < 20; looks++) {
    await Bun.sleep(10);
    const next = await holdings(pid);
    const isSame = next.fds === now.fds && next.sharedMappings === now.sharedMappings;
    if (!isSame || !own.every((name) => next.machineThreads.includes(name))) looks = 0;
    now = next;
  }
  return now;
}

function resets(events: readonly { event: string }[]): number {
  return events.filter(({ event }) => event === "reset").length;
}

describe("reset", () => {
  for (const method of ["i8042", "acpi", "triple"]) {
    test(
      `by ${method}: the guest starts over, with devices as after power-on`,
      async () => {
        const run = await runSuite("reset", { cmdline: `method=${method} count=3` });
        expectOk("reset", run);
        expect(run.stdout.match(/^boot .*$/gm)).toEqual(["boot 1", "boot 2", "boot 3"]);
        expect(resets(run.events)).toBe(2);
      },
      guestTimeoutMs,
    );

    test(
      `by ${method} on another vCPU than the first: all of them start over`,
      async () => {
        const cmdline = `method=${method} count=3 cpus=4 by=2`;
        const run = await runSuite("reset", { cpus: 4, cmdline });
        expectOk("reset", run);
        expect(run.stdout.match(/^boot .*$/gm)).toEqual(["boot 1", "boot 2", "boot 3"]);
      },
      guestTimeoutMs,
    );
  }

  test(
    "while other vCPUs are in the midst of accesses",
    async () => {
      const cmdline = "method=i8042 count=20 cpus=4 busy=on";
      const run = await runSuite("reset", { cpus: 4, cmdline });
      expectOk("reset", run);
      expect(resets(run.events)).toBe(19);
    },
    guestTimeoutMs,
  );

  for (const method of ["i8042", "triple"]) {
    test(
      `100 boots by ${method} leak no fd, thread or mapping`,
      async () => {
        const cmdline = `test=reset method=${method} count=100 cpus=2 hold=3,100`;
        await using guest = await startGuest({ guest: "suite", cpus: 2, cmdline });

        await guest.until("boot 3\n");
        const before = await settled(guest.pid);
        await guest.input("\n");
        await guest.until("boot 100\n");
        const after = await settled(guest.pid);
        await guest.input("\n");
        const run = await guest.finish();

        expectOk("reset", run);
        expect(resets(run.events)).toBe(99);
        expect(after.fds).toBe(before.fds);
        expect(before.machineThreads).toEqual(expect.arrayContaining(own));
        expect(after.machineThreads).toEqual(before.machineThreads);
        expect(after.sharedMappings).toBe(before.sharedMappings);
        // the runtime starts helpers and grows its heap by mappings; a leak of one in each boot
        // would be 97
        expect(after.threads - before.threads).toBeLessThan(20);
        expect(after.mappings - before.mappings).toBeLessThan(50);
      },
      guestTimeoutMs,
    );
  }
});
