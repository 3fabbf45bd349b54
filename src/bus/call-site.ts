/** Where in the source something was said. */

/**
 * File and line of a frame of a stack: `depth` 1 is where the stack was taken, 2 its caller. A path is given from
 * `src/` on; in a binary without source maps it is the binary's own name.
 */
export function callSite(stack: string, depth: number): { file: string; line: number } {
  const frame = stack.split("\n")[depth] ?? "";
  const [, path = "chv", line = "0"] = /([^\s()]+):(\d+):\d+\)?$/.exec(frame) ?? [];
  const inSource = path.lastIndexOf("src/");
  const file = inSource < 0 ? path.slice(path.lastIndexOf("/") + 1) : path.slice(inSource);
  return { file, line: Number(line) };
}
