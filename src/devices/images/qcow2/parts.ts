/** Builds the parts of an image, and ties them to each other. */
import { Block } from "../../../ffi/block.ts";
import { type FileCalls, fileCalls } from "../../../ffi/file-vector.ts";
import type { RequestRing } from "../../../ffi/io-uring.ts";
import type { Chores } from "../../chores/chores.ts";
import type { Transfers } from "../transfers.ts";
import { Chain } from "./chain.ts";
import { Detour } from "./detour.ts";
import { entryBytes, pieceBytes } from "./format.ts";
import { Frees } from "./frees.ts";
import { Inflater } from "./inflater.ts";
import { Io } from "./io.ts";
import { Lane } from "./lane.ts";
import { LaneIo } from "./lane-io.ts";
import { Layer } from "./layer.ts";
import { listCount, tokensOf } from "./lists.ts";
import { Loads } from "./loads.ts";
import { MetadataMap } from "./metadata-map.ts";
import { Reader, type ReaderParts } from "./reader.ts";
import { RefcountJobs } from "./refcount-jobs.ts";
import { Refcounts } from "./refcounts.ts";
import { Requests } from "./requests.ts";
import type { LayerSpec, Qcow2Spec, WriteSpec } from "./spec.ts";
import { TableJobs } from "./table-jobs.ts";
import { Waits } from "./waits.ts";
import { Writer } from "./writer.ts";
import type { WriterParts } from "./writer-parts.ts";

/** Memory for L2 tables: of the image, and of each layer below it. */
const imageCacheBytes = 2 ** 24;
const backingCacheBytes = 2 ** 22;
const leastZeroBytes = 65536;

export interface PartsOptions {
  readonly calls?: FileCalls;
  /** Bounds the memory for L2 tables of the image, and for refcounts. */
  readonly cacheBytes?: number;
  readonly refcountCacheBytes?: number;
  /** Entries of the list of clusters to free. */
  readonly freeEntries?: number;
}

/** What the parts tell the image. */
export interface Hooks {
  ended(slot: number, error: number): void;
  inflated(task: number, address: number, error: number): void;
  /** The image is found to be broken. */
  warn(what: string): void;
}

export interface Parts extends ReaderParts {
  readonly requests: Requests;
  readonly reader: Reader;
  /** Undefined for an image that is only read. */
  readonly writer: Writer | undefined;
  readonly lane: Lane | undefined;
}

export function buildParts(
  spec: Qcow2Spec,
  transfers: Transfers,
  ring: RequestRing,
  chores: Chores,
  hooks: Hooks,
  options: PartsOptions,
): Parts {
  const { slots } = transfers;
  const tokens = tokensOf(slots);
  const io = new Io(ring, tokens.end);
  const waits = new Waits(tokens.inflated, listCount);
  const layers = spec.layers.map((layer, i) => {
    const top = options.cacheBytes ?? imageCacheBytes;
    return new Layer(layer, i === 0 ? top : backingCacheBytes);
  });
  const loads = new Loads(layers, io, waits, tokens.loads);
  const inflater = new Inflater(layers, io, waits, chores, tokens.inflated, hooks.inflated);
  const detour = new Detour(options.calls ?? fileCalls);
  const requests = new Requests(slots);
  const readers: ReaderParts = {
    ...{ chain: new Chain(layers), io, waits, loads, inflater, detour },
    makeRoom: (task) => writing?.lane.makeRoom(task),
  };
  const writing =
    spec.write && buildWriting(spec.write, readers, transfers, requests, hooks, options);
  const reader = new Reader(readers, transfers, 0, hooks.ended);
  return { ...readers, requests, reader, writer: writing?.writer, lane: writing?.lane };
}

function buildWriting(
  write: WriteSpec,
  readers: ReaderParts,
  transfers: Transfers,
  requests: Requests,
  hooks: Hooks,
  options: PartsOptions,
) {
  const { chain, io, waits, loads, detour } = readers;
  const layer = chain.layers[0]!;
  const tokens = tokensOf(transfers.slots);
  const { metadata } = metadataOf(layer.spec, write);
  const refcounts = new Refcounts(layer, metadata, write, options.refcountCacheBytes);
  const laneIo = new LaneIo(io, layer.fd, tokens.lane);
  const frees = new Frees(options.freeEntries);
  const refcountJobs = new RefcountJobs(refcounts, write, laneIo, frees, hooks.warn);
  const tables = new TableJobs(layer, write, refcountJobs, laneIo, frees);
  const lane = new Lane(tables, refcountJobs, laneIo, io, frees, waits);
  const zeroBytes = Math.max(layer.clusterBytes, leastZeroBytes);
  const zeroes = new Block(zeroBytes + pieceBytes);
  const parts: WriterParts = {
    ...{ transfers, requests, chain, layer, io, waits, loads, lane, tables, refcounts, frees },
    ...{ detour, zeroes, zeroBytes },
    zeroAddress: Math.ceil(zeroes.address / pieceBytes) * pieceBytes,
    warn: hooks.warn,
  };
  return { lane, writer: new Writer(parts, readers, tokens.copies, hooks.ended) };
}

/** The clusters of an image's own tables; not `sound` when two of them lie on each other, or one outside the file. */
export function metadataOf(spec: LayerSpec, write: WriteSpec) {
  const tables = spec.tables!;
  const metadata = new MetadataMap();
  const layer = new Layer(spec, 0);
  const { clusterBytes } = layer;
  let sound = metadata.add(0);
  const whole = (offset: number, bytes: number) => {
    sound = metadata.addAll(offset / clusterBytes, Math.ceil(bytes / clusterBytes)) && sound;
  };
  const one = (offset: number) => {
    if (offset < 0) sound = false;
    else if (offset > 0) whole(offset, clusterBytes);
  };
  whole(tables.l1Offset, tables.l1Entries * entryBytes);
  whole(write.refcountsOffset, write.refcounts.byteLength);
  for (let index = 0; index < tables.l1Entries; index++) one(layer.tableAt(index));
  const refcounts = new Refcounts(layer, metadata, write, 0);
  for (let index = 0; index < refcounts.tableEntries; index++) one(refcounts.blockAt(index));
  return { metadata, sound };
}
