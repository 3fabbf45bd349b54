/**
 * A cloud image of Debian's packages, as it is: systemd, ext4 on a compressed qcow2, a login, an answer over the
 * network, a power button.
 */
import { describe, expect } from "bun:test";
import { cache } from "../lab/paths.ts";
import { guestTest, inside, shared } from "./guest.ts";

/** `./dev image 24.04`: the disk, and what is in its /boot. */
const images = `${cache}/images`;

const words = [
  ...["root=LABEL=cloudimg-rootfs ro console=ttyS0 quiet systemd.show_status=false"],
  // cloud-init itself takes minutes on an emulated processor: `chv run` is where it is tested
  "cloud-init=disabled systemd.hostname=micro",
  // in its place, systemd sets up the network that the kernel's word describes
  "systemd.wants=systemd-network-generator.service systemd.wants=systemd-networkd.service",
  "net.ifnames=0 ip=192.168.249.2::192.168.249.1:255.255.255.0:micro:eth0:off",
];

/** Without the initramfs's own words: the image's kernel, initramfs and command line. */
const cloud = shared("cloud", () => {
  const overlay = inside(`${cache}/e2e/cloud.qcow2`);
  const backing = ["-b", inside(`${images}/24.04.img`), "-F", "qcow2"];
  const create = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", ...backing];
  const made = Bun.spawnSync([...create, `${cache}/e2e/cloud.qcow2`, "3584M"]);
  if (made.exitCode !== 0) throw new Error(made.stderr.toString());
  return {
    kernel: `${images}/tree/vmlinuz`,
    initramfs: `${images}/tree/initrd.img`,
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
      for ((tries = 0; tries < 30; tries++)); do
        $quick ping -c 1 -W 2 192.168.249.2 >ping && break
      done
      "$program" ctl --api-socket api.sock power-button
      await_text events '"poweroff"'`,
  };
});

describe("a Debian cloud image", () => {
  guestTest("boots to a login, from a compressed image", async () => {
    expect((await cloud()).stdout).toContain("micro login:");
  });

  guestTest("answers over the network", async () => {
    expect((await cloud()).files.ping).toContain(" 0% packet loss");
  });

  guestTest("shuts down cleanly when its power button is pressed", async () => {
    const { code, stdout, events } = await cloud();
    expect(code).toBe(0);
    expect(stdout).toContain("reboot: Power down");
    expect(events).toContain("vm/poweroff");
  });
});
