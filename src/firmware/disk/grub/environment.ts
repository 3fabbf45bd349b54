/** GRUB's variables: contexts on top of each other, where only what is exported is seen further up. */

/** What GRUB 2.12 says that it can do, as "y". */
const features = [
  ...["chainloader_bpb", "ntldr", "platform_search_hint", "default_font_path"],
  ...["all_video_module", "menuentry_id", "menuentry_options", "200_final", "nativedisk_cmd"],
  ...["timeout_style", "search_cryptodisk_only", "tpm"],
];
/** Those exported from the start. */
const born = ["root", "prefix", "grub_cpu", "grub_platform", "pager", "debug"];

export class Environment {
  #values = new Map<string, string>();
  #exported = new Set<string>(born);
  #positional: readonly string[] = [];

  constructor() {
    for (const name of features) this.#constant(`feature_${name}`, "y");
    // chv enters kernels as a BIOS's loader does: there is no EFI
    this.#constant("grub_cpu", "i386");
    this.#constant("grub_platform", "pc");
  }

  #constant(name: string, value: string): void {
    this.#values.set(name, value);
    this.#exported.add(name);
  }

  get(name: string): string {
    return this.#values.get(name) ?? "";
  }

  set(name: string, value: string): void {
    // a device's name without its parentheses, as GRUB keeps it
    const bare = name === "root" ? value.replace(/^\((.*)\)$/, "$1") : value;
    this.#values.set(name, bare);
  }

  unset(name: string): void {
    this.#values.delete(name);
  }

  export(name: string): void {
    this.#exported.add(name);
  }

  /** A menu of its own: what is not exported is left behind. Gives the way back. */
  enter(): () => void {
    const [values, positional] = [this.#values, this.#positional];
    this.#values = new Map([...values].filter(([name]) => this.#exported.has(name)));
    this.#positional = [];
    return () => {
      this.#values = values;
      this.#positional = positional;
    };
  }

  /** `$1` and on; `$#`, `$*`, `$@`. */
  get positional(): readonly string[] {
    return this.#positional;
  }

  set positional(args: readonly string[]) {
    this.#positional = args;
  }

  /** Everything that a place in a word can name; `$@` gives several. */
  values(name: string, status: number): readonly string[] {
    if (name === "@" || name === "*") return this.#positional;
    if (name === "#") return [`${this.#positional.length}`];
    if (name === "?") return [`${status}`];
    if (/^[0-9]/.test(name)) return [this.#positional[Number(name) - 1] ?? ""];
    return [this.get(name)];
  }
}

const blockSignature = "# GRUB Environment Block\n";

/** What a `grubenv` file holds; undefined when it is none. */
export function readEnvironmentBlock(text: string): Map<string, string> | undefined {
  if (!text.startsWith(blockSignature)) return undefined;
  const values = new Map<string, string>();
  let line = "";
  const flush = () => {
    const equals = line.indexOf("=");
    if (equals > 0 && !line.startsWith("#"))
      values.set(line.slice(0, equals), line.slice(equals + 1));
    line = "";
  };
  for (let at = blockSignature.length; at < text.length; at++) {
    if (text[at] === "\\") line += text[++at] ?? "";
    else if (text[at] === "\n") flush();
    else line += text[at];
  }
  return values;
}
