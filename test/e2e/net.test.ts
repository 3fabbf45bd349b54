/**
 * Linux with three network interfaces: a tap that was prepared, one that chv makes, of two pairs of queues and a large
 * MTU, and one that the kernel serves (vhost-net). Files and iperf3 go through each, also while the machine is stopped
 * and let run.
 */
import { describe, expect } from "bun:test";
import { cache } from "../lab/paths.ts";
import { guestTest, inside, shared } from "./guest.ts";
import { writeInitramfs } from "./initramfs/build.ts";
import { kernelModules, netModules } from "./initramfs/modules.ts";
import { mountTools, toolsImage } from "./tools.ts";

const pauses = 5;
const megabytes = 8;
/** A file that both sides can make. */
const pattern = `yes 0123456789abcdef0123456789abcde | head -c ${megabytes << 20}`;
const expectedPattern = (() => {
  const line = "0123456789abcdef0123456789abcde\n";
  const text = line.repeat((megabytes << 20) / line.length);
  return new Bun.CryptoHasher("sha256").update(text).digest("hex");
})();
const macs = [1, 2, 3].map((number) => `52:54:00:00:00:0${number}`);

/** More than a command line has room for. Interface N of the guest is 10.7.N.2, the host's side 10.7.N.1. */
const script = [
  `load virtio_blk ${netModules.join(" ")}`,
  mountTools("vda"),
  "for i in 0 1 2; do",
  "  ip addr add 10.7.$i.2/24 dev eth$i; ip link set eth$i up",
  "  echo eth$i $(cat /sys/class/net/eth$i/address) mtu $(cat /sys/class/net/eth$i/mtu)",
  "done",
  "echo queues $(ls -d /sys/class/net/eth1/queues/rx-* | wc -l) $(ls -d /sys/class/net/eth1/queues/tx-* | wc -l)",
  "echo ready",
  // listeners: 5000 takes a file, 5001 gives one
  "for i in 0 1 2; do",
  "  echo ping$i $(ping -c 3 -W 5 10.7.$i.1 | grep -c 'bytes from')",
  `  ${pattern} | nc 10.7.$i.1 500$i`,
  "  echo received$i $(nc 10.7.$i.1 510$i </dev/null | sha256sum)",
  "done",
  "iperf() { iperf3 -f k $@ | sed -n 's/.* \\([0-9]*\\) Kbits.sec.*receiver.*/\\1/p'; }", // what arrived, in kbit/s
  "for i in 0 1 2; do",
  "  echo iperf$i $(iperf -c 10.7.$i.1 -t 1) $(iperf -c 10.7.$i.1 -t 1 -R)",
  "done",
  "echo under way",
  "{ read -r _; touch /tmp/enough; } </dev/console &",
  "iperf -c 10.7.0.1 -t 8 >/tmp/iperf & flow=$!",
  "until [ -e /tmp/enough ]; do for i in 0 1 2; do",
  "  echo meanwhile$i $(nc 10.7.$i.1 510$i </dev/null | sha256sum)",
  "done; done",
  "wait $flow; echo flowed $(cat /tmp/iperf)",
  "echo complaints $(dmesg | grep -ciE 'blocked for more|soft lockup|rcu.*stall|transmit queue.*timed out')",
  "echo large $(ping -c 3 -W 5 -s 8500 10.7.1.1 | grep -c '8508 bytes from')",
  "ip link set eth0 promisc on; ip link set eth0 promisc off",
  "ip link set eth0 down; ip link set eth0 up",
  "ip link set eth0 address 52:54:00:00:00:77",
  "echo again $(ping -c 3 -W 5 10.7.0.1 | grep -c 'bytes from')",
  "grep virtio /proc/interrupts",
  "echo pull the cable",
  "for n in $(seq 100); do [ $(cat /sys/class/net/eth1/carrier) = 0 ] && break; sleep 0.2; done",
  "echo carrier $(cat /sys/class/net/eth1/carrier)",
].join("\n");

function initramfs(): string {
  const file = `${cache}/e2e/net.cpio`;
  const modules = kernelModules(["virtio_blk", ...netModules]);
  writeInitramfs(file, { files: { "run.sh": script }, modules });
  return file;
}

const nets = shared("net", () => ({
  initramfs: initramfs(),
  before: `
    ip tuntap add dev chv0 mode tap && ip addr add 10.7.0.1/24 dev chv0 && ip link set chv0 up
    ${pattern} >file`,
  more: [
    ...[
      "--api-socket",
      "api.sock",
      "--disk",
      `path=${inside(toolsImage())},readonly=on,image_type=raw`,
    ],
    ...["--cpus", "boot=2"], // Linux uses as many pairs of queues as it has processors
    ...["--net", `tap=chv0,mac=${macs[0]}`],
    `ip=10.7.1.1,mask=255.255.255.0,mac=${macs[1]},mtu=9000,num_queues=4,id=wide`,
    `ip=10.7.2.1,mask=255.255.255.0,mac=${macs[2]},vhost=on`,
  ],
  input: "await_text paused ''; echo",
  drive: `
    iperf3 -s >/dev/null & server=$!
    await_text stdout ready || return
    echo "$(cat /proc/$chv/task/*/comm)" >threads
    for i in 0 1 2; do
      socat -u TCP-LISTEN:500$i,reuseaddr CREATE:got$i &
      socat -U TCP-LISTEN:510$i,reuseaddr,fork FILE:file & servers="$servers $!"
    done
    await_text stdout 'under way' && pauses ${pauses} && echo yes >paused || return
    await_text stdout 'pull the cable' && ip link delete vmtap0`,
  after: `
    kill $server $servers
    for i in 0 1 2; do sha256sum <got$i; done >sums
    ip link delete chv0; rm -f file got?`,
}));

describe("network interfaces", () => {
  guestTest("have the MACs, the MTU and the queues that were asked for", async () => {
    const { stdout } = await nets();
    for (const [i, mac] of macs.entries()) {
      expect(stdout).toContain(`eth${i} ${mac} mtu ${i === 1 ? 9000 : 1500}`);
    }
    expect(stdout).toContain("queues 2 2");
  });

  for (const [i, what] of ["a prepared tap", "several queues", "vhost-net"].entries()) {
    guestTest(`reach the host, and carry files both ways: ${what}`, async () => {
      const { stdout, files } = await nets();
      expect(stdout).toContain(`ping${i} 3`);
      expect(stdout).toContain(`received${i} ${expectedPattern}`);
      expect(files.sums!.split("\n")[i]).toStartWith(expectedPattern);
    });
  }

  for (const [i, what] of ["a prepared tap", "several queues", "vhost-net"].entries()) {
    guestTest(`carry what iperf3 sends, both ways: ${what}`, async () => {
      const { stdout } = await nets();
      const [, out, back] = new RegExp(`^iperf${i} (\\d+) (\\d+)$`, "m").exec(stdout) ?? [];
      expect(Number(out)).toBeGreaterThan(0);
      expect(Number(back)).toBeGreaterThan(0);
    });
  }

  guestTest("lose nothing while the machine is paused and resumed", async () => {
    const { stdout, events } = await nets();
    expect(events.filter((event) => event === "vm/paused")).toHaveLength(pauses);
    expect(events.filter((event) => event === "vm/resumed")).toHaveLength(pauses);
    const sums = [...stdout.matchAll(/^meanwhile(\d) (\S+)/gm)].map(([, i, sum]) => [i, sum]);
    expect(sums.length).toBeGreaterThanOrEqual(3);
    for (const [at, sum] of sums.entries()) {
      expect(sum).toEqual([String(at % 3), expectedPattern]);
    }
    expect(Number(/^flowed (\d+)$/m.exec(stdout)?.[1])).toBeGreaterThan(0);
    expect(stdout).toContain("complaints 0\n");
  });

  guestTest("carry packets of the large MTU", async () => {
    expect((await nets()).stdout).toContain("large 3");
  });

  guestTest("work after they were down, and with another MAC", async () => {
    expect((await nets()).stdout).toContain("again 3");
  });

  guestTest("are served by the kernel where that was asked for", async () => {
    const { files } = await nets();
    expect(files.threads).toMatch(/^vhost-/m);
  });

  guestTest("have a vector for each queue, and lose the link with their tap", async () => {
    const { stdout, stderr } = await nets();
    const names = stdout.match(/virtio\d+-(?:config|input\.\d|output\.\d|control)/g) ?? [];
    const queues = names.map((name) => name.replace(/^virtio\d+-/, ""));
    expect(queues.filter((name) => name.startsWith("input"))).toHaveLength(4);
    expect(stdout).toContain("carrier 0");
    expect(stderr).toContain("wide: the tap is gone; the link is down");
  });

  guestTest("power-off is exit 0", async () => {
    expect((await nets()).code).toBe(0);
  });
});
