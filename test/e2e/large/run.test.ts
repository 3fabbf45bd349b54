/** `chv run` with a cloud image: one full boot of systemd and cloud-init, made by `./dev image debian`. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { cache, pathInLab, root } from "../../lab/paths.ts";
import { direct, labRun } from "../../lab/run.ts";

const image = `${cache}/images/debian/disk.qcow2`;
const inside = (path: string) => (direct ? path : pathInLab(path));
/** Emulated processors are slow with string instructions and mitigations (the lab's, not a real one's). */
const labWords = direct
  ? []
  : ["--cmdline-append", "clearcpuid=rep_good mitigations=off tsc=reliable"];
const limitMs = 900_000;

/** What the command does: everything that a run promises, in one boot. */
const command = [
  "cat",
  "echo to-error >&2",
  "id -un",
  'echo "$WORD|$PWD"',
  "cloud-init status || true",
  "cat /run/mine",
  "grep -c . /proc/swaps >/dev/null",
  "df -B1G --output=size / | tail -1",
  "exit 7",
].join("; ");

const script = `
  set -e
  work=$(mktemp -d); cd "$work"
  cp ${inside(`${root}/dist/chv`)} chv
  printf '#cloud-config\\nwrite_files:\\n  - {path: /run/mine, content: "user data ran"}\\n' >user-data
  printf 'line one\\n\\000\\377end' >input
  before=$(stat -c '%s %Y' ${inside(image)})
  status=0
  PATH= ./chv run ${inside(image)} ${labWords.map((word) => `'${word}'`).join(" ")} --tmpdir "$work" \\
    --disk-size 12G --cloud-init user-data=user-data,hostname=guest-1 --timeout 13m --env "WORD=a b" --workdir /usr \\
    --console-log console --result result.json -- sh -c '${command.replaceAll("'", "'\\''")}' \\
    <input >output 2>error || status=$?
  echo "status $status"
  [ "$status" = 7 ] || { cat result.json; tail -n 80 console; }
  echo "stdout $(base64 -w0 <output)"
  echo "stderr $(base64 -w0 <error)"
  echo "reason $(grep -o '"reason": "[a-z-]*"' result.json)"
  [ "$before" = "$(stat -c '%s %Y' ${inside(image)})" ] && echo "image untouched"
  echo "left $(ls "$work" | tr '\\n' ' ')"
  rm -rf "$work"
`;

describe.skipIf(!existsSync(image))("a cloud image", () => {
  test(
    "runs a command: its input, its two outputs, its status",
    async () => {
      const { output } = await labRun(script);
      const told = (name: string) => new RegExp(`^${name} (.*)$`, "m").exec(output)?.[1] ?? "";
      const decoded = (name: string) => Buffer.from(told(name), "base64").toString("latin1");

      expect(told("status")).toBe("7");
      expect(decoded("stdout")).toStartWith("line one\n\0\xffendroot\na b|/usr\nstatus: ");
      expect(decoded("stdout")).toMatch(/user data ran\s*1[12]\n$/);
      expect(decoded("stderr")).toBe("to-error\n");
      expect(told("reason")).toBe('"reason": "command"');
      expect(output).toContain("image untouched");
      expect(told("left")).toBe("chv console error input output result.json user-data ");
    },
    limitMs,
  );
});
