/** qcow2 images of more kinds against qemu-img, and for longer. */
import { afterAll, test } from "bun:test";
import { rmSync } from "node:fs";
import { testFolder } from "../qcow2-scenarios.ts";
import {
  mixed,
  type Row,
  tryBacking,
  tryImage,
  tryPacked,
  trySnapshot,
} from "../qcow2-scribble.ts";

const folder = testFolder();
afterAll(() => rmSync(folder, { recursive: true }));

test.each<Row>([
  ["the defaults", 2 ** 23, "cluster_size=64k", 300, {}],
  ["refcounts of 2 bits", 2 ** 20, "cluster_size=1k,refcount_bits=2", 100, {}],
  ["refcounts of 4 bits", 2 ** 20, "cluster_size=1k,refcount_bits=4", 100, { ring: "io_uring" }],
  ["refcounts of 8 bits", 2 ** 20, "cluster_size=1k,refcount_bits=8", 100, {}],
  ["refcounts of 32 bits", 2 ** 20, "cluster_size=512,refcount_bits=32", 100, {}],
  // the refcount table has to grow: its cluster reaches 2 MiB
  [
    ...(["refcounts of 64 bits", 2 ** 22, "cluster_size=512,refcount_bits=64", 1000] as const),
    { refcountCacheBytes: 4096, ring: "io_uring" },
  ],
  ["lazy refcounts", 2 ** 20, "cluster_size=4k,lazy_refcounts=on", 100, {}],
  ["preallocated metadata", 2 ** 20, "cluster_size=4k,preallocation=metadata", 100, {}],
])(
  "an image of qemu-img that is written at random is sound: %s",
  (...[name, size, options, most, rig]) => {
    tryImage(folder, [name, size, options, most, rig], 400);
  },
);

test.each([
  ["deflate, version 2", "cluster_size=4k,compat=0.10"],
  ["deflate, the least clusters", "cluster_size=512"],
  ["deflate, the largest clusters", "cluster_size=2M"],
  ["zstd, large clusters", "cluster_size=1M,compression_type=zstd"],
  ["zstd, the least clusters", "cluster_size=512,compression_type=zstd"],
])("compressed clusters are read, and written elsewhere: %s", (_name, options) => {
  tryPacked(folder, mixed(2 ** 21 + 3 * 512), options, {});
});

test.each(["cluster_size=64k", "cluster_size=512,compat=0.10", "cluster_size=2M"])(
  "a backing file shows through, and stays as it is: %s",
  (options) => {
    for (const format of ["raw", "qcow2"])
      tryBacking(folder, format, options, { ring: "io_uring" });
  },
);

test.each(["cluster_size=512,compat=0.10", "cluster_size=64k", "cluster_size=1k,refcount_bits=2"])(
  "a snapshot in the image keeps what it holds: %s",
  (options) => {
    trySnapshot(folder, options);
  },
);
