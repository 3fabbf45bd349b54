/** The options of `chv run`: the machine's own with other defaults, and those of the run. */
import * as v from "valibot";
import { CloudInitConfig } from "../../machine/config/cloud-init.ts";
import {
  DiskConfig,
  FsConfig,
  NetConfig,
  PlatformConfig,
  VsockConfig,
} from "../../machine/config/devices.ts";
import {
  count,
  field,
  name,
  onOff,
  path,
  pattern,
  size,
  text,
} from "../../machine/config/field.ts";
import { CpusConfig, MemoryConfig, PayloadConfig } from "../../machine/config/machine.ts";
import { descriptionOf, type ObjectSchema, spellingOf } from "../../machine/config/shape.ts";

const GiB = 2 ** 30;

const several = <S extends v.GenericSchema>(item: S) =>
  v.optional(field(v.array(item), descriptionOf(item), spellingOf(item)));

const fd = (description: string) => count(description, { max: 2 ** 31 - 1, hint: "FD" });

const duration = (description: string) =>
  pattern(/^\d{1,9}(ms|s|m|h)$/, "a time, such as 500ms, 120s, 5m or 1h", description, {
    hint: "TIME",
  });

export const RunOptionsSchema = v.object({
  payload: v.optional(PayloadConfig, {}),
  cpus: v.optional(CpusConfig, { boot_vcpus: 2 }),
  memory: v.optional(MemoryConfig, { size: GiB }),
  net: several(NetConfig),
  disks: several(DiskConfig),
  fs: several(FsConfig),
  vsock: v.optional(VsockConfig),
  cloud_init: v.optional(CloudInitConfig),
  platform: v.optional(PlatformConfig),
  diskSize: v.optional(size("Size of the image's disk, which can only grow")),
  backingFiles: v.optional(onOff("IMAGE may have backing files"), false),
  keep: v.optional(path("Keep what was written, as a qcow2 image over IMAGE")),
  tmpdir: v.optional(path("Folder for what is not kept; TMPDIR, or /tmp, if not given")),
  env: several(
    pattern(/^[^=\0]+=[^\0]*$/, "a variable, such as NAME=VALUE", "Variable of the command", {
      hint: "NAME=VALUE",
    }),
  ),
  workdir: v.optional(path("Folder in the guest that the command starts in")),
  user: v.optional(name("User in the guest that the command runs as; root", { hint: "NAME" })),
  timeout: v.optional(duration("Time for all of it")),
  expect: several(text("Wait until a console's line matches", { hint: "REGEX" })),
  send: several(text("Type this when the expectation of the same number is met", { hint: "TEXT" })),
  script: v.optional(path("File of steps: expect REGEX, send TEXT, one a line")),
  failOn: several(text("Fail as soon as a console's line matches", { hint: "REGEX" })),
  result: v.optional(path("Write what came of it to this file, as JSON")),
  junit: v.optional(path("The same as a JUnit report")),
  consoleLog: v.optional(path("What the consoles say to this file, with times")),
  control: v.optional(
    field(
      v.object({
        fd: fd("A socket that commands and the API's operations come by"),
        stdin: fd("Standard input of the commands"),
        stdout: fd("Their standard output"),
        stderr: fd("Their standard error"),
      }),
      "Do what a program says that started this, by descriptors: for the package chv of npm",
    ),
  ),
  progress: v.optional(onOff("Console and progress on stderr"), false),
}) satisfies ObjectSchema;

export type RunOptions = v.InferOutput<typeof RunOptionsSchema>;

const units = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;

/** What a timer takes at most, 24 days: a longer one would fire at once. */
const timerMaxMs = 2 ** 31 - 1;

/** A duration's text in milliseconds. */
export function durationMs(text: string): number {
  const [, digits, unit] = /^(\d+)(ms|s|m|h)$/.exec(text)!;
  return Math.min(Number(digits) * units[unit as keyof typeof units], timerMaxMs);
}
