/** `chv run` with a cloud image, whole: systemd and cloud-init on the layout of Ubuntu 24.04, and a command in it. */
import { expect, test } from "bun:test";
import { cloudRun, cloudRunMs } from "./cloud-run.ts";

/** What the command does: everything that a run promises, in one boot. */
const script = [
  "cat",
  "echo to-error >&2",
  "id -un",
  'echo "$WORD|$PWD"',
  "hostname",
  "cat /run/mine",
  "for folder in / /boot /boot/efi; do findmnt -no SOURCE,FSTYPE $folder; done",
  "df -BG --output=size / | tail -1",
  "exit 7",
].join("; ");

/** Keys of one kind, and no more of what takes an emulated processor its time: 45 s less. */
const userData = `#cloud-config
write_files:
  - {path: /run/mine, content: "user data ran\\n"}
ssh_genkeytypes: [ed25519]
ssh: {emit_keys_to_console: false}
grub_dpkg: {enabled: false}
locale: false
`;

test(
  "a cloud image runs a command: its input, its two outputs, its status",
  async () => {
    const { status, stdout, stderr, result, left } = await cloudRun("run", {
      image: "24.04",
      options: [
        ...["--disk-size", "12G", "--env", "WORD=a b", "--workdir", "/usr"],
        ...["--cloud-init", "user-data=user-data,hostname=guest-1"],
      ],
      command: ["sh", "-c", script],
      input: "line one\n\0\xffend\n",
      files: { "user-data": userData },
    });

    expect({ status, stderr, reason: result.reason }).toEqual({
      ...{ status: 7, stderr: "to-error\n", reason: "command" },
    });
    expect(stdout.replace(/ +/g, " ").split("\n")).toEqual([
      ...["line one", "\0\xffend", "root", "a b|/usr", "guest-1", "user data ran"],
      ...["/dev/vda1 ext4", "/dev/vda16 ext4", "/dev/vda15 vfat"],
      ...[expect.stringMatching(/^ 1[12]G$/), ""],
    ]);
    expect(left).toEqual([]);
  },
  cloudRunMs,
);
