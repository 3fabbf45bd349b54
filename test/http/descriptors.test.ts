/** Descriptors that come beside a request (SCM_RIGHTS), as Kata's drivers send the taps of a pod. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { close, Open, open } from "../../src/ffi/file.ts";
import { DescriptorClient, whole } from "./descriptors.ts";
import { startApi } from "./rig.ts";

const mac = "02:00:00:00:00:01";
const nic = { ...{ ip: "192.168.249.1", mask: "255.255.255.0", mac }, num_queues: 2 };

let folder = "";
let file = "";
let sent: number[] = [];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "chv-fds-"));
  file = join(folder, "file");
  writeFileSync(file, "");
  sent = Array.from({ length: 3 }, () => open(file, Open.readOnly));
});
afterAll(() => {
  for (const fd of sent) close(fd);
  rmSync(folder, { recursive: true });
});

/** How many descriptors of this process are the server's copies of those that were sent. */
function copies(): number {
  const targets = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return "";
    }
  });
  return targets.filter((target) => target === file).length - sent.length;
}

async function created() {
  const rig = await startApi();
  const client = await rig.connect();
  await client.ask("PUT", "vm.create", { payload: { kernel: "/k" } });
  const nets = async () =>
    JSON.parse((await client.ask("GET", "vm.info")).body).config.net as { fds?: number[] }[];
  return { rig, client, nets };
}

test("Go sends a NIC in one message, the next on the same connection", async () => {
  const { rig, nets } = await created();
  await using _ = rig;
  using go = new DescriptorClient(rig.path);

  go.send(whole("vm.add-net", nic), sent[0]!);
  expect(await go.answer()).toEqual({ status: 204, body: "" });
  go.send(whole("vm.add-net", { ...nic, num_queues: 4 }), sent[1]!, sent[2]!);
  expect(await go.answer()).toEqual({ status: 204, body: "" });

  expect((await nets()).map(({ fds }) => fds?.length)).toEqual([1, 2]);
  expect(copies()).toBe(3);
});

test("Rust sends them with the first piece alone, and numbers of its own that mean nothing", async () => {
  const { rig, nets } = await created();
  await using _ = rig;
  using rust = new DescriptorClient(rig.path);
  const body = JSON.stringify({ ...nic, vhost_mode: "Client", vhost_user: false, fds: [0] });

  rust.send("PUT /api/v1/vm.add-net HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n", sent[0]!);
  rust.send(`Content-Length: ${body.length}\r\n`);
  rust.send("\r\n");
  rust.send(body);

  expect((await rust.answer()).status).toBe(204);
  const [{ fds = [] } = {}] = await nets();
  expect(fds).toHaveLength(1);
  expect(readlinkSync(`/proc/self/fd/${fds[0]}`)).toBe(file);
});

test("those that nobody takes are closed with the answer, and with their connection", async () => {
  const { rig } = await created();
  await using _ = rig;
  {
    using client = new DescriptorClient(rig.path);
    client.send("GET /api/v1/vmm.ping HTTP/1.1\r\n\r\n", ...sent);
    expect((await client.answer()).status).toBe(200);
    client.send("GET /api/v1/vmm.ping HTTP/1.1\r\n\r\n");
    await client.answer();
    expect(copies()).toBe(0);

    client.send("GET /api/v1/vmm.ping HT", ...sent);
    while (copies() !== 3) await Bun.sleep(1);
  }
  while (copies() !== 0) await Bun.sleep(1);
});

test("a count that is not the queues' is refused, and nothing is kept of it", async () => {
  const { rig, client, nets } = await created();
  await using _ = rig;
  using go = new DescriptorClient(rig.path);

  go.send(whole("vm.add-net", nic), sent[0]!, sent[1]!);

  const { status, body } = await go.answer();
  expect([status, JSON.parse(body)]).toEqual([
    400,
    [
      "vm.add-net failed",
      "net: 2 descriptors came for num_queues=2; send one for each pair of queues",
    ],
  ]);
  expect(await nets()).toBeUndefined();
  expect((await client.ask("GET", "vmm.ping")).status).toBe(200);
  expect(copies()).toBe(0);
});

test("they go with their device, and with their VM", async () => {
  const { rig, client } = await created();
  await using _ = rig;
  using go = new DescriptorClient(rig.path);
  for (const [i, fd] of sent.entries()) {
    go.send(whole("vm.add-net", { ...nic, id: `nic${i}` }), fd);
    expect((await go.answer()).status).toBe(204);
  }
  go.send(whole("vm.add-net", { ...nic, id: "nic0" }), sent[0]!); // the name is taken
  expect((await go.answer()).status).toBe(400);

  expect((await client.ask("PUT", "vm.remove-device", { id: "nic1" })).status).toBe(204);
  expect(copies()).toBe(2);
  expect((await client.ask("PUT", "vm.delete")).status).toBe(204);
  expect(copies()).toBe(0);
});

test("vm.create takes none: a number in its body could be any of chv's own", async () => {
  await using rig = await startApi();
  const client = await rig.connect();

  const net = [{ mac, fds: [3] }];
  const { status, body } = await client.ask("PUT", "vm.create", { net });

  expect([status, JSON.parse(body)[1]]).toEqual([
    400,
    "net: descriptors come with vm.add-net; leave fds out here",
  ]);
});
