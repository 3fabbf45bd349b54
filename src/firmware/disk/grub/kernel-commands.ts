/** `linux`, `initrd` and their spellings of other platforms: what an entry loads, not yet read. */
import type { CallContext, Handler } from "./interpreter.ts";
import type { FileAt, Loader } from "./loader.ts";
import { GrubError } from "./syntax.ts";

export function kernelHandlers(loader: Loader): Readonly<Record<string, Handler>> {
  const linux: Handler = (args, context) => loadKernel(loader, args, context);
  const initrd: Handler = (args, context) => loadInitrd(loader, args, context);
  return {
    ...{ linux, linux16: linux, linuxefi: linux },
    ...{ initrd, initrd16: initrd, initrdefi: initrd },
  };
}

function loadKernel(loader: Loader, args: readonly string[], { at }: CallContext): boolean {
  const [path, ...words] = args;
  if (path === undefined) throw new GrubError(at, "linux without a file");
  const kernel = loader.locate(path, at);
  if (!kernel || !loader.exists(kernel, at)) {
    loader.missed(at, `no ${path}${kernel ? ` on ${kernel.volume.shown}` : ""}`);
    return false;
  }
  const cmdline = [`BOOT_IMAGE=${quote(path)}`, ...words.map(quote)].join(" ");
  loader.loaded = { kernel, cmdline, initrds: [] };
  return true;
}

function loadInitrd(loader: Loader, args: readonly string[], { at }: CallContext): boolean {
  const { loaded } = loader;
  if (!loaded) {
    loader.missed(at, "initrd, and no kernel is loaded");
    return false;
  }
  const initrds: FileAt[] = [];
  for (const path of args) {
    if (/^(?:newc:|--)/.test(path)) throw new GrubError(at, `chv does not know initrd ${path}`);
    const file = loader.locate(path, at);
    if (!file || !loader.exists(file, at)) {
      throw new GrubError(at, `no ${path}${file ? ` on ${file.volume.shown}` : ""}`);
    }
    initrds.push(file);
  }
  loader.loaded = { ...loaded, initrds };
  return true;
}

/** As GRUB puts words into the command line (lib/cmdline.c): quotes around blanks, `\` before quotes. */
function quote(word: string): string {
  const escaped = word.replace(/\\x[0-9a-fA-F]{2}|[\\'"]/g, (sign) =>
    sign.length > 1 ? sign : `\\${sign}`,
  );
  return word.includes(" ") ? `"${escaped}"` : escaped;
}
