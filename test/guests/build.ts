/**
 * Builds the micro-guests: freestanding C and assembly to a PVH ELF, with the host's gcc. A guest
 * is `NAME.c` or every .c file of a folder `NAME/`, plus the library. The result's name carries a
 * hash of everything that went into it, so nothing is built twice and concurrent builders cannot
 * disturb each other: each writes its own file and renames it.
 */
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";

const here = import.meta.dir;
const root = join(here, "../..");
const cache = join(root, ".cache/guests");

/**
 * No SSE and no x87 (KVMs that emulate kernel-mode code know few of those instructions), no red
 * zone (interrupts come on the same stack), addresses below 2 GiB.
 */
const guestFlags = [
  ..."-m64 -O2 -std=gnu11 -Wall -Wextra -Werror -ffreestanding -fno-pic -no-pie".split(" "),
  ..."-static -nostdlib -mno-red-zone -mgeneral-regs-only -mcmodel=small".split(" "),
  ..."-fcf-protection=none -fno-stack-protector -fno-asynchronous-unwind-tables".split(" "),
  ..."-fno-tree-loop-distribute-patterns -Wl,--build-id=none -Wl,-z,norelro".split(" "),
  ..."-Wl,-z,max-page-size=4096 -Wl,--no-warn-rwx-segments".split(" "),
  `-Wl,-T,${join(here, "lib/guest.ld")}`,
];

/**
 * The path of the guest's ELF, built if it is not there yet. Throws with gcc's words when it does
 * not compile.
 */
export async function buildGuest(name: string): Promise<string> {
  const library = (await readdir(join(here, "lib"))).map((file) => join(here, "lib", file));
  const own = (await Bun.file(join(here, `${name}.c`)).exists())
    ? [join(here, `${name}.c`)]
    : (await readdir(join(here, name)))
        .filter((file) => /\.[ch]$/.test(file))
        .map((file) => join(here, name, file));
  return compile(name, "elf", [...library, ...own].sort(), guestFlags);
}

/** The path of a host program: C files, and headers they need, by their paths in the repository. */
export async function buildHostProgram(name: string, ...sources: string[]): Promise<string> {
  const files = sources.map((source) => join(root, source));
  return compile(name, "bin", files, "-O2 -std=gnu11 -Wall -Wextra".split(" "));
}

async function compile(name: string, kind: string, files: string[], flags: string[]) {
  const hash = new Bun.CryptoHasher("sha256").update(flags.join("\0"));
  for (const file of files) hash.update(`\0${file}\0`).update(await Bun.file(file).bytes());
  const output = join(cache, `${name}-${hash.digest("hex").slice(0, 16)}.${kind}`);
  if (await Bun.file(output).exists()) return output;

  await mkdir(cache, { recursive: true });
  const temporary = `${output}.${process.pid}.${crypto.randomUUID()}`;
  const sources = files.filter((file) => /\.[cS]$/.test(file));
  const gcc = Bun.spawn(["gcc", ...flags, "-o", temporary, ...sources], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  const complaints = await gcc.stderr.text();
  if ((await gcc.exited) !== 0) {
    await rm(temporary, { force: true });
    throw new Error(`gcc could not build the guest ${name}:\n${complaints}`);
  }
  await rename(temporary, output);
  return output;
}
