/**
 * A disk's backend in this process, for `./dev bench blk`: how many objects a million requests make, counted before
 * any is collected. Arguments: the load generator, the image, and its words.
 */
import { heapStats } from "bun:jsc";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { VhostUserDevice } from "../../src/devices/vhost-user/device.ts";
import { VhostUserServer } from "../../src/devices/vhost-user/server.ts";
import { BlockBackend } from "../../src/devices/virtio/block.ts";
import {
  type BlockSpec,
  blockConfig,
  blockFeatures,
} from "../../src/devices/virtio/block-config.ts";
import { EpollSet } from "../../src/ffi/epoll.ts";
import { listenUnix } from "../../src/ffi/unix-socket.ts";
import { Watcher } from "../../src/machine/watcher.ts";

const [program = "", image = "", words = ""] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "chv-heap-"));
const socket = join(folder, "socket");
const epoll = new EpollSet();
const watcher = new Watcher(epoll, 0);
const listenFd = listenUnix(socket, 1);
const spec: BlockSpec = {
  ...{ fd: openSync(image, "r+"), sectors: statSync(image).size / 512, readonly: false },
  ...{ direct: false, serial: "", queues: 1, queueSize: 128, writeback: true, blockSize: 512 },
  ...{ physicalBlockSize: 4096, discard: false, uring: true },
};
const features = BigInt(blockFeatures(spec)) | (1n << 28n) | (1n << 29n) | (1n << 32n);
const config = new Uint8Array(new SharedArrayBuffer(blockConfig(spec).length));
const device = new VhostUserDevice(
  {
    ...{ features, queues: 1, queueCount: 1, config: blockConfig(spec) },
    ...{ writable: new Uint8Array(config.length), tracksInFlight: true },
  },
  { config, create: (host) => new BlockBackend(spec, host, config) },
  {
    watch: (fd, events, ready) => watcher.watch(fd, events, ready),
    unwatch: (fd) => watcher.unwatch(fd),
    chores: () => {
      throw new Error("no chores");
    },
    warn: (text) => console.error(text),
  },
);
new VhostUserServer(listenFd, device);

/** Objects that are there, garbage included. */
const objects = () =>
  Object.values(heapStats().objectTypeCounts).reduce((sum, count) => sum + count, 0);
serve("requests=200000");
Bun.gc(true);
const before = objects();
serve("requests=1000000");
const made = objects() - before;
closeSync(listenFd);
rmSync(folder, { recursive: true });
process.stdout.write(JSON.stringify({ made }));

/** Until the load has ended: it is looked after by its state in /proc, since nobody goes back to the event loop. */
function serve(more: string): void {
  const args = [`socket=${socket}`, ...words.split(" "), more];
  const { pid } = Bun.spawn([program, ...args], { stdio: ["ignore", "ignore", "inherit"] });
  for (;;) {
    const count = epoll.wait(100);
    for (let i = 0; i < count; i++) watcher.handle(epoll.tokenAt(i), epoll.eventsAt(i));
    if (count === 0 && readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ")) return;
  }
}
