/** `chv doctor` on this host, and on hosts that lack something: in mount namespaces where it has been hidden. */
import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chvCommand, guestTimeoutMs } from "./harness.ts";

interface Line {
  readonly verdict: string;
  readonly detail: string;
  readonly fix: string | undefined;
}

/** What doctor says, by its subject, after `hide` in a mount namespace of its own; `as` goes before chv. */
async function doctor(
  hide = "true",
  as = "",
): Promise<{ exitCode: number; said: Map<string, Line> }> {
  const chv = (await chvCommand()).map((word) => `'${word}'`).join(" ");
  const script = `set -e; mount --make-rprivate /; ${hide}; exec ${as} ${chv} doctor`;
  const child = Bun.spawn(["unshare", "-m", "sh", "-c", script], { stdin: "ignore" });
  const text = await child.stdout.text();
  const said = new Map<string, Line>();
  const line = /^(ok|limited|missing) +(.+?) {2,}(.*)\n(?: +fix: (.*)\n)?/gm;
  for (const [, verdict = "", what = "", detail = "", fix] of text.matchAll(line)) {
    said.set(what, { verdict, detail, fix });
  }
  return { exitCode: await child.exited, said };
}

const tests = (name: string, run: () => Promise<void>) => test(name, run, guestTimeoutMs);
const meminfo = (name: string) =>
  Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(readFileSync("/proc/meminfo", "utf8"))![1]);

tests("a host that runs machines: exit 0, and a fix for whatever is not at its best", async () => {
  const { exitCode, said } = await doctor();

  expect(exitCode).toBe(0);
  expect([...said.keys()]).toEqual([
    ...["/dev/kvm", "Linux guests", "nested guests", "memory", "huge pages", "io_uring"],
    ...["/dev/net/tun", "/dev/vhost-net", "/dev/vhost-vsock"],
  ]);
  expect(said.get("/dev/kvm")!.verdict).toBe("ok");
  const hardware = /^flags.*\b(vmx|svm)\b/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1];
  const linux = hardware === undefined ? ["limited", "no vmx or svm"] : ["ok", "hardware"];
  expect(said.get("Linux guests")!.verdict).toBe(linux[0]!);
  expect(said.get("Linux guests")!.detail).toContain(linux[1]!);
  const pages = `${meminfo("HugePages_Free")} of ${meminfo("HugePages_Total")} free`;
  expect(said.get("huge pages")!.detail).toStartWith(pages);
  for (const [what, { verdict, fix }] of said) {
    if (verdict === "missing") expect([what, fix]).toEqual([what, expect.any(String)]);
  }
});

tests("no KVM: exit 241, and what to do", async () => {
  const { exitCode, said } = await doctor("mount --bind /dev/null /dev/kvm");

  expect(exitCode).toBe(241);
  expect(said.get("/dev/kvm")).toMatchObject({ verdict: "missing", fix: expect.any(String) });
});

tests("a KVM that this user may not open", async () => {
  const folder = mkdtempSync(join(tmpdir(), "chv-doctor-"));
  try {
    const node = join(folder, "kvm");
    const hide = `mknod -m 600 ${node} c 10 232; mount --bind ${node} /dev/kvm`;
    const nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    const { exitCode, said } = await doctor(hide, nobody);

    expect(exitCode).toBe(241);
    const { verdict, detail, fix } = said.get("/dev/kvm")!;
    expect(verdict).toBe("missing");
    expect(detail).toContain("permission denied");
    expect(fix).toContain("group");
    expect(said.get("/dev/net/tun")!.verdict).not.toBe("ok");
  } finally {
    rmSync(folder, { recursive: true });
  }
});

tests("no taps", async () => {
  const { exitCode, said } = await doctor("mount -t tmpfs none /dev/net");

  expect(exitCode).toBe(0);
  expect(said.get("/dev/net/tun")).toEqual({
    verdict: "missing",
    detail: "no such file or directory; --net needs it",
    fix: "as root: modprobe tun",
  });
});
