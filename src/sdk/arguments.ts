/** `boot`'s options as words of a command line. */
import { quoteValue } from "../cli/split.ts";
import {
  type BootOptions,
  type CloudInit,
  durationMs,
  type FileOrText,
  type Value,
} from "./options.ts";

/** Makes a descriptor of the child's of some text, and gives the path that it is there under. */
export type TextFile = (text: string) => string;

function written(value: Exclude<Value, undefined>): string {
  if (typeof value === "boolean") return value ? "on" : "off";
  if (typeof value === "object") return `[${value.map((one) => quoteValue(`${one}`)).join(",")}]`;
  return quoteValue(`${value}`);
}

/** `path=/disk.img,readonly=on`; undefined when there is no key. */
export function keys(object: object): string | undefined {
  const pairs = (Object.entries(object) as [string, Value][]).flatMap(([key, value]) =>
    value === undefined ? [] : [`${key}=${written(value)}`],
  );
  return pairs.length === 0 ? undefined : pairs.join(",");
}

function cloudInit(config: CloudInit, textFile: TextFile): string | undefined {
  const file = (one: FileOrText | undefined) =>
    typeof one === "object" ? textFile(one.text) : one;
  return keys({
    "user-data": file(config.userData),
    "meta-data": file(config.metaData),
    "network-config": file(config.networkConfig),
    "vendor-data": file(config.vendorData),
    "ssh-key": file(config.sshKey),
    ...{ hostname: config.hostname, password: config.password },
  });
}

/** The words of `chv run`, `--control` left out. */
export function runArguments(options: BootOptions, textFile: TextFile): string[] {
  const words: string[] = [options.image];
  // with "=", a value may begin with a dash
  const give = (name: string, value: string | number | undefined) => {
    if (value !== undefined) words.push(`--${name}=${value}`);
  };
  const bare = (value: string | number | object | undefined) =>
    typeof value === "object" ? keys(value) : value;
  const { timeout } = options;
  give("kernel", options.kernel);
  give("initramfs", options.initramfs);
  give("cmdline", options.cmdline);
  give("cmdline-append", options.cmdlineAppend);
  give("boot-entry", options.bootEntry);
  give("cloud-init", options.cloudInit && cloudInit(options.cloudInit, textFile));
  give("cpus", bare(options.cpus));
  give("memory", bare(options.memory));
  for (const disk of options.disks ?? []) {
    give("disk", keys(typeof disk === "string" ? { path: disk } : disk));
  }
  for (const net of options.net ?? []) give("net", keys(net));
  for (const fs of options.fs ?? []) give("fs", keys(fs));
  give("vsock", bare(options.vsock));
  give("platform", bare(options.platform));
  give("disk-size", options.diskSize);
  if (options.backingFiles !== undefined)
    words.push(`--backing-files=${written(options.backingFiles)}`);
  give("keep", options.keep);
  give("tmpdir", options.tmpdir);
  give("timeout", timeout === undefined ? undefined : `${Math.ceil(durationMs(timeout))}ms`);
  for (const pattern of options.failOn ?? []) give("fail-on", pattern);
  give("console-log", options.consoleLog);
  return [...words, ...(options.args ?? [])];
}
