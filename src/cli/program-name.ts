/** The name that chv was started by: clients of Cloud Hypervisor link it as theirs, and ask it for its version. */
const aliases = ["cloud-hypervisor"];

/** `argv0`: the first word of the command line. */
export function programName(argv0: string): string {
  const name = argv0.slice(argv0.lastIndexOf("/") + 1);
  return aliases.includes(name) ? name : "chv";
}
