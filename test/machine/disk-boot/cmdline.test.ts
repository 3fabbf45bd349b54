/** The command line as options change it, and the consoles that it names. */
import { expect, test } from "bun:test";
import { parse } from "valibot";
import { checkBoot } from "../../../src/machine/config/check.ts";
import { complete, type VmConfig, VmConfigSchema } from "../../../src/machine/config/vm.ts";
import { appended, silentConsoles, withConsole } from "../../../src/machine/disk-boot/cmdline.ts";

const config = (more: object): VmConfig => complete(parse(VmConfigSchema, more));

test.each<[string, string | undefined, string]>([
  ["root=/dev/vda ro", "quiet", "root=/dev/vda ro quiet"],
  ["", "quiet", "quiet"],
  ["ro", undefined, "ro"],
  ["ro", "", "ro"],
  ["ro -- -b emergency", "quiet", "ro quiet -- -b emergency"],
  ["ro --", "quiet", "ro quiet --"],
  ["a--b", "c", "a--b c"],
])("%j and %j is %j", (cmdline, more, all) => {
  expect(appended(cmdline, more)).toBe(all);
});

test.each<[string, string, string]>([
  ["console=tty1 console=ttyS0", "Tty", "Null"],
  ["console=hvc0 console=ttyS0,115200n8 console=tty0", "Tty", "Null"],
  ["console=ttyS0 console=hvc0", "Null", "Tty"],
  ["quiet", "Null", "Tty"],
  ["console=hvc0 -- console=ttyS0", "Null", "Tty"],
])(
  "%j puts the serial port to %s, the console to %s, where the user leaves it open",
  (line, ...modes) => {
    const chosen = withConsole(config({ auto_console: true }), line);
    expect([chosen.serial.mode, chosen.console.mode]).toEqual(modes as never);

    const asked = config({ serial: { mode: "Null" } });
    expect(withConsole(asked, line)).toBe(asked);
  },
);

test("a firmware speaks on the serial port, unless the command line says otherwise", () => {
  const firmware = config({ auto_console: true, payload: { firmware: "/fw" } });
  const modes = (line: string) => {
    const { serial, console } = withConsole(firmware, line);
    return [serial.mode, console.mode];
  };

  expect(modes("")).toEqual(["Tty", "Null"]);
  expect(modes("console=hvc0")).toEqual(["Null", "Tty"]);
});

test.each<[object, string, string[]]>([
  [{ serial: { mode: "Tty" }, console: { mode: "Off" } }, "console=ttyS0", []],
  [{ serial: { mode: "Tty" }, console: { mode: "Off" } }, "console=hvc0", ["--serial"]],
  [{ serial: { mode: "File", file: "/f" } }, "console=ttyS0", []],
  [{ serial: { mode: "File", file: "/f" } }, "console=hvc0", ["--serial"]],
  [{}, "console=hvc0", []],
  [{}, "quiet", ["--console"]],
  [{ console: { mode: "Off" } }, "quiet", []],
])("%j with %j warns of %j", (more, line, options) => {
  expect(silentConsoles(config(more), line).map((text) => text.split(":")[0]!)).toEqual(options);
});

test("a boot needs a kernel, or a disk that can be looked at", () => {
  const disk = { path: "/image" };
  expect(checkBoot(config({ disks: [disk] })).payload.kernel).toBeUndefined();
  expect(() => checkBoot(config({ disks: [{}] }))).toThrow("--kernel: no kernel to boot");
  expect(() => checkBoot(config({ payload: { kernel: "/k", boot_entry: "0" } }))).toThrow(
    "--boot-entry: chooses from a disk's menu",
  );
});
