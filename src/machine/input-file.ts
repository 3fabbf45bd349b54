/** Files of the user's that a machine reads as it boots. */
import { ConfigError } from "../exit-codes.ts";
import { close, Open, open } from "../ffi/file.ts";
import { statusOf } from "../ffi/file-status.ts";
import { SystemError } from "../ffi/libc.ts";

/** An open file of the user's: `fd` belongs to the holder. */
export interface InputFile {
  readonly fd: number;
  readonly size: number;
  readonly path: string;
}

/** Opens a file to read. Throws ConfigError naming the option. */
export function openInput(option: string, path: string): InputFile {
  let fd: number;
  try {
    fd = open(path, Open.readOnly | Open.nonBlock); // a pipe without a writer must not hold up chv
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    throw new ConfigError(
      `${option} ${path}: ${error.reason}; name a file that chv may read`,
      option,
    );
  }
  const { kind, size } = statusOf(fd);
  if (kind === "file") return { fd, size, path };
  close(fd);
  throw new ConfigError(`${option} ${path}: not a regular file; name an image file`, option);
}
