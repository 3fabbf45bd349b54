/**
 * `./dev bench blk`: the native data path of a disk. The same load, by test/bench/blk-load.c over vhost-user shared
 * memory, on `chv backend block` and on QEMU's storage daemon, in turns, on one raw file; and what a million requests
 * leave in memory.
 */
import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { chvCommand } from "../guests/harness.ts";
import { type Row, report, row } from "./report.ts";
import { Backend, type Load, loadProgram, pinned, Scratch } from "./vhost-user.ts";

const samples = 5;
const seconds = 0.6;
const warm = 0.6;
const secondsBefore = 2;
const fileBytes = 512 * 2 ** 20;
const blockBytes = 4096;
const GiB = 2 ** 30;

interface Shape {
  readonly name: string;
  readonly words: string;
  /** A load that comes first, of as many pieces: with few requests a second a backend would be compiled for seconds. */
  readonly before?: string;
}
const shapes: readonly Shape[] = [
  { name: "4k randread qd1", words: "op=randread bytes=4096 depth=1" },
  { name: "4k randread qd32", words: "op=randread bytes=4096 depth=32" },
  { name: "4k randwrite qd1", words: "op=randwrite bytes=4096 depth=1" },
  { name: "4k randwrite qd32", words: "op=randwrite bytes=4096 depth=32" },
  {
    name: "1M read qd4",
    words: "op=read bytes=1048576 segments=16 depth=4",
    before: "op=read bytes=65536 segments=16 depth=32",
  },
];
const modes = [
  { name: "cached", direct: false },
  { name: "direct", direct: true },
] as const;
const queueCounts = [1, 4];
/** `./dev bench blk WORD…` measures the shapes alone whose names have all the words; `memory` alone the rest. */
const wanted = process.argv.slice(2).filter((word) => !word.startsWith("--"));

using scratch = new Scratch();
const program = await loadProgram("blk-load");
const image = makeImage();
const chv = await chvCommand();

const rows: Row[] = [];
for (const { name: mode, direct } of modes) {
  for (const queues of queueCounts) {
    const of = queues === 1 ? "" : ` ${queues} queues`;
    const named = shapes.map((shape) => ({ ...shape, name: `raw ${shape.name}${of} ${mode}` }));
    const chosen = named.filter(({ name }) =>
      wanted.every((word) => name.split(" ").includes(word)),
    );
    if (chosen.length > 0) await measure(chosen, direct, queues);
  }
}
if (wanted.length === 0 || wanted.includes("memory")) await measureMemory();
report("blk", rows);

/** The backends live through all shapes, as a guest's would; they take turns. */
async function measure(chosen: readonly Shape[], direct: boolean, queues: number): Promise<void> {
  await using ours = new Backend(chvBackend(direct, queues), scratch.path("chv"));
  await using theirs = new Backend(peerCommand(direct, queues), scratch.path("qemu"));
  for (const { name, words, before } of chosen) {
    const [own, peer]: [Load[], Load[]] = [[], []];
    const file = `queues=${queues} file-bytes=${fileBytes}`;
    if (before) {
      await ours.load(program, `${before} ${file} seconds=${secondsBefore}`);
      await theirs.load(program, `${before} ${file} seconds=${secondsBefore}`);
    }
    const all = `${words} ${file} seconds=${seconds} warm=${warm}`;
    for (let i = 0; i < samples; i++) {
      own.push(await ours.load(program, all));
      peer.push(await theirs.load(program, all));
    }
    const add = (unit: string, figure: (load: Load) => number) => {
      const command = peerCommand(direct, queues).join(" ");
      const other = { name: "qemu-storage-daemon", command, samples: peer.map(figure) };
      rows.push(row(`${name} ${unit}`, unit, own.map(figure), other));
    };
    add("requests/s", (load) => load.requests / load.seconds);
    add("CPU us/request", (load) => (load.cpu * 1e6) / load.requests);
  }
}

function chvBackend(direct: boolean, queues: number): string[] {
  const keys = `num_queues=${queues},direct=${direct ? "on" : "off"},image_type=raw`;
  return [
    ...chv,
    "backend",
    "block",
    "--socket",
    scratch.path("chv"),
    "--image",
    `${image},${keys}`,
  ];
}

/** QEMU's quickest way: io_uring, and a thread of its own, which polls. */
function peerCommand(direct: boolean, queues: number): string[] {
  const file = `driver=file,node-name=file,filename=${image},locking=off`;
  const cache = `aio=io_uring,cache.direct=${direct ? "on" : "off"}`;
  const socket = `addr.type=unix,addr.path=${scratch.path("qemu")}`;
  const target = `vhost-user-blk,id=export,node-name=file,writable=on,num-queues=${queues}`;
  return [
    ...["qemu-storage-daemon", "--object", "iothread,id=io0", "--blockdev", `${file},${cache}`],
    ...["--export", `${target},iothread=io0,${socket}`],
  ];
}

/** A guest of 4 GiB whose buffers lie all over it. */
async function measureMemory(): Promise<void> {
  const words = `ram=${4 * GiB} spread=1 depth=32 file-bytes=${fileBytes}`;
  await using ours = new Backend(chvBackend(false, 1), scratch.path("chv"));
  await ours.load(program, `${words} requests=200000`);
  const load = await ours.load(program, `${words} warm=0.5 requests=1000000`);
  const MiB = (KiB: number) => [KiB / 1024];
  rows.push(row("resident after 1M requests, 4G guest MiB", "MiB", MiB(load.rssAfter)));
  rows.push(
    row("resident growth over 1M requests MiB", "MiB", MiB(load.rssAfter - load.rssBefore)),
  );
  const command = [process.execPath, join(import.meta.dir, "blk-heap.ts"), program, image, words];
  const { stdout } = Bun.spawnSync([...pinned(0), ...command], { stderr: "inherit" });
  const { made } = JSON.parse(stdout.toString()) as { made: number };
  rows.push(row("heap growth over 1M requests objects", "objects", [made]));
}

/** Each block begins with its offset. */
function makeImage(): string {
  const path = scratch.path("image");
  const fd = openSync(path, "w");
  const piece = new DataView(new ArrayBuffer(2 ** 20));
  for (let at = 0; at < fileBytes; at += piece.byteLength) {
    for (let inside = 0; inside < piece.byteLength; inside += blockBytes) {
      piece.setBigUint64(inside, BigInt(at + inside), true);
    }
    writeSync(fd, piece);
  }
  fsyncSync(fd);
  closeSync(fd);
  return path;
}
