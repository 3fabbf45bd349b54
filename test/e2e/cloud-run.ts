/** `chv run` with a whole cloud image (`./dev image LAYOUT`), as a script of CI would call it. */
import { statSync } from "node:fs";
import type { LayoutName } from "../images/layouts.ts";
import { cache } from "../lab/paths.ts";
import { direct } from "../lab/run.ts";
import { inside, labWords, preparation, quote, runInFolder } from "./guest.ts";

export interface CloudRunOptions {
  readonly image: LayoutName;
  /** Options of `chv run`. */
  readonly options?: readonly string[];
  readonly command: readonly string[];
  readonly input?: string;
  /** Files beside the program, by name. */
  readonly files?: Readonly<Record<string, string>>;
}

export interface CloudRun {
  readonly status: number;
  /** A character for each byte. */
  readonly stdout: string;
  readonly stderr: string;
  readonly result: { readonly reason: string; readonly [key: string]: unknown };
  readonly console: string;
  /** The files in the folder afterwards, and before. */
  readonly left: readonly string[];
}

export const cloudImage = (name: LayoutName): string => `${cache}/images/${name}.img`;

/** A boot with cloud-init takes 90 to 200 s in the lab, 900 there on a busy machine, 10 to 30 on a real processor. */
const boundS = 1800;
/** With what comes before and after it. */
export const cloudRunMs = (boundS + 240) * 1000;

/** The lab has one processor: a second vCPU would only take the first one's time, as does each byte of the console. */
const labOptions = direct
  ? []
  : ["--cpus", "1", "--cmdline-append", `${labWords} quiet systemd.show_status=false`];

/** Runs it to its end. Throws, with the console's end, when there was none, or when the image's bytes changed. */
export async function cloudRun(name: string, options: CloudRunOptions): Promise<CloudRun> {
  const image = cloudImage(options.image);
  const words = [
    ...["run", inside(image), ...labOptions, "--tmpdir", ".", "--timeout", `${boundS}s`],
    ...["--console-log", "console", "--result", "result.json", ...(options.options ?? [])],
    ...["--", ...options.command],
  ];
  const given = { input: options.input ?? "", ...options.files };
  const before = statSync(image, { bigint: true });
  const { output, files } = await runInFolder(
    name,
    (folder) => `
    ${preparation(folder)}
    trap 'keep_files ${quote(folder)}; rm -rf "$work"' EXIT
    ${Object.entries(given)
      .map(([file, text]) => `base64 -d >${file} <<<'${Buffer.from(text, "latin1").toBase64()}'`)
      .join("\n")}
    limit ${boundS + 60}
    PATH= "$program" ${words.map(quote).join(" ")} <input >output 2>error
    echo $? >status
    ls | tr '\\n' ' ' >left
    for file in output error; do base64 -w0 <$file >$file.base64; done`,
    cloudRunMs,
  );
  const after = statSync(image, { bigint: true });
  if (after.mtimeNs !== before.mtimeNs) throw new Error(`${name}: the image was written to`);
  const { status, "result.json": result, console = "", left = "" } = files;
  if (status === undefined || result === undefined) {
    throw new Error(`${name}: no end: ${output}\n${files.error}\n${console.slice(-4000)}`);
  }
  const bytes = (file: string) => Buffer.from(files[file] ?? "", "base64").toString("latin1");
  const known = [...Object.keys(given), ...["console", "error", "output", "result.json", "status"]];
  return {
    status: Number(status),
    ...{ stdout: bytes("output.base64"), stderr: bytes("error.base64"), console },
    result: JSON.parse(result),
    left: left.split(" ").filter((file) => file !== "" && file !== "left" && !known.includes(file)),
  };
}
