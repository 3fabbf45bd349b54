/**
 * What Kata Containers' drivers of four generations send and read, byte for byte. The requests are theirs, and so are
 * the demands on the answers: a status line without a reason, one spelling of Content-Length, ASCII bodies.
 */
import { expect, test } from "bun:test";
import { unbuilt } from "../../src/machine/config/unbuilt.ts";
import { type Answer, type Client, startApi } from "./rig.ts";

/** How the Go drivers send, and how the Rust driver does: in one piece, and in pieces without Content-Type. */
const go = (method: string, operation: string, body = "") =>
  [
    `${method} /api/v1/${operation} HTTP/1.1`,
    ...["Host: localhost", "User-Agent: OpenAPI-Generator/1.0.0/go", "Accept: application/json"],
    `Content-Length: ${body.length}`,
    ...(body === "" ? [] : ["Content-Type: application/json"]),
    ...["Accept-Encoding: gzip", "", body],
  ].join("\r\n");

async function rust(client: Client, method: string, operation: string, body?: string) {
  client.send(`${method} /api/v1/${operation} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n`);
  if (body !== undefined) client.send(`Content-Length: ${body.length}\r\n`);
  client.send("\r\n");
  if (body !== undefined) client.send(body);
  return client.answer();
}

async function ask(client: Client, text: string): Promise<Answer> {
  client.send(text);
  return client.answer();
}

const noContent = "HTTP/1.1 204 \r\n\r\n";

const create2026 = {
  console: { iommu: false, mode: "Off" },
  cpus: {
    ...{ boot_vcpus: 1, kvm_hyperv: false, max_vcpus: 4, nested: true },
    topology: { cores_per_die: 4, dies_per_package: 1, packages: 1, threads_per_core: 1 },
  },
  disks: [
    {
      ...{ backing_files: false, direct: false, image_type: "Raw", iommu: false, num_queues: 1 },
      ...{ path: "/image", queue_size: 128, readonly: true, sparse: true, vhost_user: false },
    },
  ],
  fs: [{ num_queues: 1, pci_segment: 1, queue_size: 1024, socket: "/v.sock", tag: "kataShared" }],
  iommu: false,
  landlock_enable: false,
  memory: {
    ...{ hotplug_method: "Acpi", hotplug_size: 2147483648, hugepages: false, mergeable: false },
    ...{ prefault: false, shared: true, size: 536870912, thp: true },
  },
  payload: { cmdline: "root=/dev/vda1 panic=1", kernel: "/vmlinux" },
  platform: { num_pci_segments: 2, sev_snp: false, tdx: false },
  pvpanic: false,
  rng: { iommu: false, src: "/dev/urandom" },
  serial: { iommu: false, mode: "Off" },
  vsock: { cid: 3, iommu: false, socket: "/clh.sock" },
  watchdog: false,
};

test("Go, 2026: ping, create, add-net, info, shutdown on one connection", async () => {
  await using rig = await startApi();
  const client = await rig.connect();

  const ping = await ask(client, go("GET", "vmm.ping"));
  expect(ping.head).toMatch(
    /^HTTP\/1\.1 200 \r\nContent-Type: application\/json\r\nContent-Length: \d+\r\n\r\n$/,
  );
  expect(JSON.parse(ping.body)).toMatchObject({ pid: process.pid, features: ["kvm"] });
  expect(JSON.parse(ping.body).version).toMatch(/^\d+\.\d+\.\d+$/);

  const created = await ask(client, go("PUT", "vm.create", `${JSON.stringify(create2026)}\n`));
  expect(created.head).toBe(noContent);
  const net = {
    ...{ iommu: false, ip: "192.168.249.1", mask: "255.255.255.0", mac: "02:00:00:00:00:01" },
    ...{ num_queues: 2, queue_size: 256, vhost_user: false, vhost_mode: "Client" },
    ...{ offload_tso: true, offload_ufo: true, offload_csum: true },
  };
  expect((await ask(client, go("PUT", "vm.add-net", JSON.stringify(net)))).head).toBe(noContent);

  const info = JSON.parse((await ask(client, go("GET", "vm.info"))).body);
  expect(info.state).toBe("Created");
  expect(info.memory_actual_size).toBe(536870912);
  expect(info.config).toMatchObject(create2026);
  expect(info.config.cpus.max_phys_bits).toBeNumber();
  expect(info.config.net[0]).toMatchObject(net);
  expect(info.config.disks[0].id).toBe("_disk0");

  const end = await ask(client, go("PUT", "vmm.shutdown"));
  expect(end.head).toBe("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n");
});

test("Rust, 2026: one connection, in pieces, nulls and keys that nobody knows", async () => {
  await using rig = await startApi();
  const client = await rig.connect();
  const body = {
    cpus: { boot_vcpus: 1, max_vcpus: 1, max_phys_bits: 46, features: { amx: false } },
    memory: { size: 268435456, mergeable: false, hotplug_method: "Acpi", hotplug_size: 1073741824 },
    payload: { firmware: null, kernel: "/k", cmdline: "c", initramfs: null, mrconfigid: null },
    disks: [{ path: "/d", num_queues: 1, queue_size: 128, image_type: "Unknown" }],
    rng: { src: "/dev/urandom", iommu: false },
    serial: { file: null, mode: "Off", iommu: false },
    console: { file: null, mode: "Off", iommu: false },
    devices: [],
    vsock: { cid: 3, socket: "/s", iommu: false, id: null, pci_segment: 0 },
    iommu: false,
    watchdog: false,
  };

  expect((await rust(client, "GET", "vmm.ping")).status).toBe(200);
  const created = await rust(client, "PUT", "vm.create", JSON.stringify(body, null, 2));
  expect(created.head).toBe(noContent);
  const nic = { ip: "10.0.0.1", mask: "255.0.0.0", mac: "02:00:00:00:00:02", num_queues: 2 };
  const more = { iommu: false, vhost_user: false, vhost_mode: "Client", fds: null };
  const added = await rust(client, "PUT", "vm.add-net", JSON.stringify({ ...nic, ...more }));
  expect(added.head).toBe(noContent);

  const info = JSON.parse((await rust(client, "GET", "vm.info")).body);
  expect(info.config.net[0]).toMatchObject({ ...nic, queue_size: 256 });
  expect(info.config.payload).toEqual({ kernel: "/k", cmdline: "c", kernel_entry: "auto" });
  expect(info.config.platform).toBeUndefined();
});

test("Go, early 2020 (v0.5): its spelling in, its spelling out", async () => {
  await using rig = await startApi();
  const client = await rig.connect();
  const body = {
    memory: { size: 268435456, file: "/dev/shm" },
    kernel: { path: "/vmlinux" },
    cmdline: { args: "root=/dev/pmem0p1" },
    net: [{ tap: "tap0", mac: "02:00:00:00:00:03" }],
    fs: [{ tag: "kataShared", sock: "/v.sock" }],
    vsock: [{ cid: 3, sock: "/c.sock" }],
    disks: [{ path: "/d", readonly: true }],
  };

  expect((await ask(client, go("PUT", "vm.create", JSON.stringify(body)))).head).toBe(noContent);
  const { config } = JSON.parse((await ask(client, go("GET", "vm.info"))).body);

  expect(config).toMatchObject(body);
  expect(config.payload).toBeUndefined();
  expect(config.fs[0]).toMatchObject({ num_queues: 1, queue_size: 1024 });
  expect(config.fs[0]).toMatchObject({ dax: true, cache_size: 8 * 2 ** 30 });
  expect(config.fs[0].socket).toBeUndefined();
  expect(config.net[0]).toMatchObject({ num_queues: 2, queue_size: 256 });
  expect(config.disks[0]).toMatchObject({ num_queues: 1, queue_size: 128 });
  expect(config.cpus).toMatchObject({ boot_vcpus: 1, max_vcpus: 1 });
});

test("Go, 2021 (v15): kernel and cmdline on top, vsock as an object, no limits of size 0", async () => {
  await using rig = await startApi();
  const client = await rig.connect();
  const none = { bandwidth: { size: 0, refill_time: 0 }, ops: { size: 0, refill_time: 0 } };
  const body = {
    kernel: { path: "/vmlinux" },
    cmdline: { args: "panic=1" },
    vsock: { cid: 3, socket: "/c.sock" },
    fs: [
      {
        ...{ tag: "kataShared", socket: "/v.sock", num_queues: 1, queue_size: 1024 },
        ...{ dax: false, cache_size: 0 },
      },
    ],
    pmem: [{ file: "/image", discard_writes: true }],
    balloon: { size: 0 },
    net: [{ mac: "02:00:00:00:00:04", tap: "tap0", rate_limiter_config: none }],
  };

  expect((await ask(client, go("PUT", "vm.create", JSON.stringify(body)))).head).toBe(noContent);
  const { config } = JSON.parse((await ask(client, go("GET", "vm.info"))).body);

  expect(config).toMatchObject(body);
  expect(config.payload).toBeUndefined();
  expect(config.net[0].rate_limiter_config).toEqual(none);
});

test("bodies are ASCII, whatever they hold", async () => {
  await using rig = await startApi();
  const client = await rig.connect();

  await client.ask("PUT", "vm.create", { payload: { kernel: "/größe \u{1f980}" } });
  const { body } = await client.ask("GET", "vm.info");

  expect(body).toMatch(/^[\x20-\x7e]*$/);
  expect(JSON.parse(body).config.payload.kernel).toBe("/größe \u{1f980}");
});

/** Status lines, headers and bodies that are the same for every driver (kata.md sections 0, 2 and 4). */
const exact: [what: string, request: string, head: string, body: string][] = [
  ["a configuration is stored", go("PUT", "vm.create", "{}\n"), noContent, ""],
  ["a second one is refused", go("PUT", "vm.create", "{}\n"), error(409), "vm.create failed"],
  ["what does not run is not paused", go("PUT", "vm.pause"), error(409), "vm.pause failed"],
  ["a body where none is taken", go("PUT", "vm.boot", "{}"), error(400), "vm.boot failed"],
  ["no JSON", go("PUT", "vm.add-net", "{"), error(400), "vm.add-net failed"],
  ["a path that is not there", go("GET", "vm.none"), error(404), "There is no /api/v1/vm.none"],
  ["a method that is wrong", go("GET", "vm.boot"), error(405, "Allow: PUT\r\n"), "vm.boot failed"],
  [
    "a device that is not there",
    go("PUT", "vm.remove-device", '{"id":"x"}'),
    error(404),
    "vm.remove-device failed",
  ],
  ["deleted", go("PUT", "vm.delete"), noContent, ""],
  ["and there is none", go("GET", "vm.info"), error(404), "vm.info failed"],
];

/** Whatever its length. */
function error(status: number, more = ""): string {
  const headers = `Content-Type: application/json\r\nContent-Length: N\r\n`;
  return `HTTP/1.1 ${status} \r\n${more}${headers}\r\n`;
}

test("answers to what is right and to what is wrong, byte for byte, on one connection", async () => {
  await using rig = await startApi();
  const client = await rig.connect();

  for (const [what, request, head, outermost] of exact) {
    const answer = await ask(client, request);
    // header names come in any order but spelled so; messages are words, of which the first says what failed
    const sorted = (text: string) => text.split("\r\n").toSorted();
    expect([what, sorted(answer.head.replace(/(Content-Length: )\d+/, "$1N"))]).toEqual([
      what,
      sorted(head),
    ]);
    if (outermost === "") expect(answer.body).toBe("");
    else expect([what, JSON.parse(answer.body)[0]]).toEqual([what, outermost]);
  }
});

test("a connection is kept however long and however often it is used, and a GET may name gzip", async () => {
  await using rig = await startApi();
  const client = await rig.connect();

  for (let i = 0; i < 200; i++) {
    const { head } = await ask(client, go("GET", "vmm.ping"));
    expect(head).not.toContain("Connection");
    expect(head).not.toContain("Encoding");
  }
});

test("ten clients at once are all served", async () => {
  await using rig = await startApi();
  const clients = await Promise.all(Array.from({ length: 10 }, () => rig.connect()));

  const answers = await Promise.all(clients.map((client) => ask(client, go("GET", "vmm.ping"))));

  expect(answers.map(({ status }) => status)).toEqual(new Array(10).fill(200));
});

test("vm.info: numbers are plain integers, enums are words, and nothing is left out that a decoder demands", async () => {
  await using rig = await startApi();
  const client = await rig.connect();
  const big = { ...create2026, memory: { ...create2026.memory, hotplug_size: 25276063744 } };
  const devices = { balloon: { size: 0, deflate_on_oom: false, free_page_reporting: true } };
  await ask(client, go("PUT", "vm.create", JSON.stringify({ ...big, ...devices, devices: [] })));
  const nic = { mac: "02:00:00:00:00:01", ip: "10.0.0.1", mask: "255.0.0.0", num_queues: 2 };
  await ask(client, go("PUT", "vm.add-net", JSON.stringify(nic)));

  const { body } = await ask(client, go("GET", "vm.info"));

  expect(body).toContain('"hotplug_size":25276063744');
  expect(body).toContain('"memory_actual_size":536870912');
  expect(body).not.toContain("device_tree"); // it has not been booted
  const { config } = JSON.parse(body);
  expect(config.cpus).toMatchObject({ boot_vcpus: 1, max_vcpus: 4, max_phys_bits: 46 });
  expect(Object.keys(config.cpus.topology)).toHaveLength(4);
  expect(config.net[0]).toMatchObject({ ...nic, queue_size: 256 });
  expect(config.disks[0]).toMatchObject({ num_queues: 1, queue_size: 128, image_type: "Raw" });
  expect(config.fs[0]).toMatchObject({ tag: "kataShared", num_queues: 1, queue_size: 1024 });
  expect([config.rng.src, config.serial.mode, config.console.mode]).toEqual([
    ...["/dev/urandom", "Off", "Off"],
  ]);
  expect(config.vsock).toMatchObject({ cid: 3, socket: "/clh.sock" });
  expect([config.platform.num_pci_segments, config.balloon.size]).toEqual([2, 0]);
});

test("a limit is told as it came: no key inside it that its decoder does not know", async () => {
  await using rig = await startApi();
  const client = await rig.connect();
  const rate_limiter_config = { bandwidth: { size: 1000, refill_time: 1000 } };
  const disks = [{ path: "/d", rate_limiter_config }];

  await ask(client, go("PUT", "vm.create", JSON.stringify({ disks })));
  const { body } = await ask(client, go("GET", "vm.info"));

  expect(JSON.parse(body).config.disks[0].rate_limiter_config).toEqual(rate_limiter_config);
});

test.each([
  ["a second PCI segment", { platform: { num_pci_segments: 2 } }, "--platform num_pci_segments="],
  ["virtio-fs", { fs: [{ tag: "t", socket: "/s" }] }, "--fs"],
  ["a vsock", { vsock: { cid: 3, socket: "/s" } }, "--vsock"],
  ["a host device", { devices: [{ path: "/d" }] }, "--device"],
  ["an IOMMU", { iommu: true }, "iommu: true"],
])("%s is stored, and refused by the boot in a line that names it", async (_, config, option) => {
  const asked = unbuilt.some((row) => row.option === option);
  if (!asked) return; // it is built
  await using rig = await startApi();
  const client = await rig.connect();
  const body = JSON.stringify({ payload: { kernel: "/k" }, ...config });
  expect((await ask(client, go("PUT", "vm.create", body))).head).toBe(noContent);

  const answer = await ask(client, go("PUT", "vm.boot"));

  expect(answer.status).toBe(400);
  expect(JSON.parse(answer.body)[1]).toStartWith(`${option}: not built in this version of chv`);
});
