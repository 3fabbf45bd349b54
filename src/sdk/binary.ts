/** Which chv is started. */
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { BinaryError } from "./errors.ts";

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** Beside this file (dist/sdk) or the package's folder, and in what npm links programs into. */
const beside = ["../chv", "../../chv", "../../../.bin/chv"];

/** What is to be started: `CHV`, else beside the package, else on PATH. Throws BinaryError. */
export function findBinary(
  environment: Readonly<Record<string, string | undefined>>,
  here: string | URL,
): string {
  const named = environment.CHV;
  if (named !== undefined && named !== "") {
    if (isProgram(named)) return named;
    throw new BinaryError(`CHV=${named}: no such program; name the chv executable, or unset CHV`);
  }
  const near = beside.map((path) => fileURLToPath(new URL(path, here)));
  const folders = (environment.PATH ?? "").split(delimiter).filter((folder) => folder !== "");
  const found = [...near, ...folders.map((folder) => join(folder, "chv"))].find(isProgram);
  if (found !== undefined) return found;
  throw new BinaryError(
    `chv: not found at ${near[0]} nor on PATH; put the executable there, or name it in the variable CHV`,
  );
}
