/** Taps as a plain user finds them, in a network and a mount namespace of the test. */
import { expect, test } from "bun:test";
import { join } from "node:path";

const user = "65534";
const program = join(import.meta.dir, "plain-user.ts");

/** Runs a shell's preparation as root, then the options as a plain user; a line for each. */
function asUser(preparation: string, ...options: string[]): string[] {
  const run = `exec setpriv --reuid=${user} --clear-groups "$@"`;
  const argv = [process.execPath, program, ...options];
  const { stdout, stderr } = Bun.spawnSync([
    ...["unshare", "--net", "--mount", "sh", "-ec", `${preparation}\n${run}`, "sh", ...argv],
  ]);
  expect(stderr.toString()).toBe("");
  return stdout.toString().trimEnd().split("\n");
}

test("a prepared tap is used as it is; what needs a privilege is refused with the command to run", () => {
  const lines = asUser(
    `mount -t tmpfs tmpfs /dev/net
     mknod -m 666 /dev/net/tun c 10 200
     ip tuntap add dev mine mode tap user ${user}
     ip tuntap add dev wide mode tap user ${user} multi_queue
     ip tuntap add dev theirs mode tap user 1234
     ip link set mine up mtu 1400
     ip link set wide up
     ip tuntap add dev resting mode tap user ${user}`,
    ...["tap=mine", "tap=mine,mtu=1400", "tap=wide,num_queues=4", "tap=theirs", "tap=absent"],
    ...["tap=mine,mtu=1500", "tap=mine,host_mac=02:00:00:00:00:01", "tap=resting", "ip=10.0.0.1"],
  );

  expect(lines).toEqual([
    "1 queues",
    "1 queues",
    "2 queues",
    "--net tap=theirs: it is another user's; " +
      'have it made for you with "ip tuntap add dev theirs mode tap user $USER"',
    "--net tap=absent: there is none, and making one needs CAP_NET_ADMIN; " +
      'have it made with "ip tuntap add dev absent mode tap user $USER"',
    "--net tap=mine: mtu=1500: operation not permitted; " +
      'have it set with "ip link set mine mtu 1500"',
    "--net tap=mine: host_mac=02:00:00:00:00:01: operation not permitted; " +
      'have it set with "ip link set mine address 02:00:00:00:00:01"',
    "--net tap=resting: resting is down: operation not permitted; " +
      'have it set with "ip link set resting up"',
    "--net: making a tap needs CAP_NET_ADMIN; have one made with " +
      '"ip tuntap add dev tap0 mode tap user $USER", and name it: tap=tap0',
  ]);
});

test("without the tap driver, or without leave to open it, one line says what to do", () => {
  expect(asUser("mount -t tmpfs tmpfs /dev/net", "tap=x")).toEqual([
    '--net tap=x: /dev/net/tun: no such file or directory; load it with "modprobe tun"',
  ]);
  const closed = "mount -t tmpfs tmpfs /dev/net; mknod -m 600 /dev/net/tun c 10 200";
  expect(asUser(closed, "tap=x")).toEqual([
    "--net tap=x: /dev/net/tun: permission denied; let chv read and write it",
  ]);
});
