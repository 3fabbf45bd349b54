/** A cloud image of Debian's packages, as it is: systemd, ext4 on a compressed qcow2, cloud-init, network, a login. */
import { describe, expect } from "bun:test";
import { cache } from "../lab/paths.ts";
import { guestTest, inside, shared } from "./guest.ts";

const folder = `${cache}/images/debian`;

const userData =
  "#cloud-config\nhostname: micro\nssh_deletekeys: false\nssh_genkeytypes: [ed25519]\n";
const networkData = [
  "version: 2",
  "ethernets:",
  "  nic:",
  "    match: {macaddress: '52:54:00:12:34:56'}",
  "    addresses: [192.168.249.2/24]",
].join("\n");

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
    cmdline: "root=LABEL=cloudimg-rootfs ro console=ttyS0",
    boots: 3,
    before: [
      `printf '%s' '${userData.replaceAll("'", `'\\''`)}' >user-data`,
      `printf '%s' '${networkData.replaceAll("'", `'\\''`)}' >network-config`,
      `cp ${overlay} overlay.qcow2`,
    ].join("\n"),
    more: [
      ...["--cpus", "1", "--memory", "512M", "--api-socket", "api.sock"],
      ...["--disk", "path=overlay.qcow2,image_type=qcow2,backing_files=on"],
      ...["--cloud-init", "user-data=user-data,network-config=network-config"],
      ...["--net", "mac=52:54:00:12:34:56"],
    ],
    drive: `
      await_text stdout 'micro login: ' || return
      timeout 20 ping -c 2 -W 5 192.168.249.2 >ping || return
      for try in 1 2 3 4 5; do
        timeout 10 socat -t 5 - TCP:192.168.249.2:22 </dev/null >banner && [ -s banner ] && break
        pause 2
      done
      "$program" ctl --api-socket api.sock power-button
      await_text events '"poweroff"'`,
  };
});

describe("a Debian cloud image", () => {
  guestTest("boots to a login, named by its cloud-init", async () => {
    expect((await cloud()).stdout).toContain("micro login:");
  });

  guestTest("answers over the network", async () => {
    const { files } = await cloud();
    expect(files.ping).toContain("2 packets received");
    expect(files.banner).toStartWith("SSH-2.0-OpenSSH");
  });

  guestTest("shuts down cleanly when its power button is pressed", async () => {
    const { code, stdout, events } = await cloud();
    expect(code).toBe(0);
    expect(stdout).toContain("reboot: Power down");
    expect(events).toContain("vm/poweroff");
  });
});
