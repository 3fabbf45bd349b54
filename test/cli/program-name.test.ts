/** What `--version` says: two words, as clients of Cloud Hypervisor read them, whatever the binary is linked as. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { programName } from "../../src/cli/program-name.ts";

test("the name is that of the link, where it is a known one", () => {
  expect(programName("/usr/local/bin/cloud-hypervisor")).toBe("cloud-hypervisor");
  expect(programName("cloud-hypervisor")).toBe("cloud-hypervisor");
  expect(programName("/opt/chv")).toBe("chv");
  expect(programName("bun")).toBe("chv");
  expect(programName("cloud-hypervisor-static")).toBe("chv");
});

test("two words on stdout, nothing on stderr, the second of three numbers", () => {
  const main = join(import.meta.dir, "../../src/main.ts");
  const run = (name: string) =>
    Bun.spawnSync(["bash", "-c", 'exec -a "$0" "$@"', name, process.execPath, main, "--version"]);

  for (const [linked, said] of [
    ["/usr/bin/cloud-hypervisor", /^cloud-hypervisor \d+\.\d+\.\d+\n$/],
    ["/usr/bin/chv", /^chv \d+\.\d+\.\d+\n$/],
  ] as const) {
    const { stdout, stderr, exitCode } = run(linked);
    expect(stdout.toString()).toMatch(said);
    expect([stderr.toString(), exitCode]).toEqual(["", 0]);
  }
});
