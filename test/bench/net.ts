/**
 * `./dev bench net`: the native data path of a network interface. The same load, by test/bench/net-load.c, on
 * `chv backend net` and on a bare loop in C that moves the same frames between the same rings and a tap like it
 * (test/bench/net-loop.c), in turns, in a network namespace.
 */
import { chvCommand } from "../guests/harness.ts";
import { NetworkNamespace } from "../network/namespace.ts";
import { type Row, report, row } from "./report.ts";
import { Backend, type Load, loadProgram, pinned, runLoad, Scratch } from "./vhost-user.ts";

const samples = 5;
const time = "seconds=0.6 warm=0.6";
/** `./dev bench net WORD…` measures what has all the words in its name. */
const wanted = process.argv.slice(2).filter((word) => !word.startsWith("--"));
const [ownTap, peerTap] = ["bench0", "bench1"];

const ways = [
  { way: "tx", name: "guest to host" },
  { way: "rx", name: "host to guest" },
] as const;
const sizes = [
  { bytes: 64, name: "64 byte frames" },
  { bytes: 1500, name: "1500 byte frames" },
  { bytes: 65536, name: "64K segments" },
] as const;

using scratch = new Scratch();
using namespace = new NetworkNamespace();
const inside = ["nsenter", `--net=${namespace.path}`];
const program = await loadProgram("net-load", ["net-loop.c", "net-loop.h"]);
for (const tap of [ownTap, peerTap]) {
  const { exitCode, stderr } = Bun.spawnSync([...inside, program, "setup=1", `tap=${tap}`]);
  if (exitCode !== 0) throw new Error(`no tap ${tap}: ${stderr}`);
}
const socket = scratch.path("chv");
const command = [...(await chvCommand()), "backend", "net", "--socket", socket, "--tap", ownTap!];
const peer = ["net-load", "peer=1", "cpu=0", `tap=${peerTap}`];

const rows: Row[] = [];
{
  await using backend = new Backend(command, socket, inside);
  for (const { way, name } of ways) {
    for (const size of sizes) {
      const names = `${size.name} ${name}`.split(" ");
      if (!wanted.every((word) => names.includes(word))) continue;
      const words = `way=${way} bytes=${size.bytes} ${time}`;
      const [own, other]: [Load[], Load[]] = [[], []];
      for (let i = 0; i < samples; i++) {
        own.push(await backend.load(program, `tap=${ownTap} ${words}`));
        const rest = [...peer.slice(1), ...words.split(" ")];
        other.push(await runLoad([...inside, ...pinned(1), program, ...rest]));
      }
      const add = (unit: string, figure: (load: Load) => number) => {
        const full = [...peer, words].join(" ");
        const loop = { name: "C loop", command: full, samples: other.map(figure) };
        rows.push(row(`${size.name} ${name} ${unit}`, unit, own.map(figure), loop));
      };
      add("frames/s", (load) => load.requests / load.seconds);
      add("CPU us/frame", (load) => (load.cpu * 1e6) / load.requests);
    }
  }
}
report("net", rows);
