/** A cloud image of Debian's packages, as it is: systemd, ext4 on a compressed qcow2, a login, a power button. */
import { describe, expect } from "bun:test";
import { cache } from "../lab/paths.ts";
import { guestTest, inside, shared } from "./guest.ts";

const folder = `${cache}/images/debian`;

const words = [
  ...["root=LABEL=cloudimg-rootfs ro console=ttyS0 quiet systemd.show_status=false"],
  // cloud-init itself takes minutes on an emulated processor: `chv run` is where it is tested
  "cloud-init=disabled systemd.hostname=micro",
];

/** Without the initramfs's own words: the image's kernel, initramfs and command line. */
const cloud = shared("cloud", () => {
  const overlay = inside(`${cache}/e2e/cloud.qcow2`);
  const backing = ["-b", inside(`${folder}/disk.qcow2`), "-F", "qcow2"];
  const create = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", ...backing];
  const made = Bun.spawnSync([...create, `${cache}/e2e/cloud.qcow2`, "2252M"]);
  if (made.exitCode !== 0) throw new Error(made.stderr.toString());
  return {
    kernel: `${folder}/vmlinuz`,
    initramfs: `${folder}/initrd.img`,
    cmdline: words.join(" "),
    boots: 3,
    before: `cp ${overlay} overlay.qcow2`,
    more: [
      ...["--cpus", "1", "--memory", "512M", "--api-socket", "api.sock"],
      ...["--disk", "path=overlay.qcow2,image_type=qcow2,backing_files=on"],
      ...["--net", "mac=52:54:00:12:34:56"],
    ],
    drive: `
      await_text stdout 'micro login: ' || await_text stdout 'micro login: ' || return
      "$program" ctl --api-socket api.sock power-button
      await_text events '"poweroff"'`,
  };
});

describe("a Debian cloud image", () => {
  guestTest("boots to a login, from a compressed image", async () => {
    expect((await cloud()).stdout).toContain("micro login:");
  });

  guestTest("shuts down cleanly when its power button is pressed", async () => {
    const { code, stdout, events } = await cloud();
    expect(code).toBe(0);
    expect(stdout).toContain("reboot: Power down");
    expect(events).toContain("vm/poweroff");
  });
});
