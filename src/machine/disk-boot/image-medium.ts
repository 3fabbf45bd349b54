/**
 * Disk images as the boot loader reads them: at once, on the calling thread, never written. Raw files and block devices
 * as they are; qcow2 by the tables of `devices/images/qcow2`, compressed clusters and backing files included.
 */
import { fstatSync } from "node:fs";
import { unpackDeflate, unpackZstd } from "../../devices/chores/unpack.ts";
import { ImageError } from "../../devices/images/image-error.ts";
import { formatNames, probeBytes, probeImage } from "../../devices/images/probe.ts";
import { bytesAt, Chain, fileAt, layerAt } from "../../devices/images/qcow2/chain.ts";
import { packedBytes, packedOffset } from "../../devices/images/qcow2/inflater.ts";
import { Kind, Layer, writtenEnd } from "../../devices/images/qcow2/layer.ts";
import { openQcow2 } from "../../devices/images/qcow2/open.ts";
import type { LayerSpec } from "../../devices/images/qcow2/spec.ts";
import { deviceBytes } from "../../ffi/block-device.ts";
import { Open, open, pread } from "../../ffi/file.ts";
import { SystemError } from "../../ffi/libc.ts";
import { checkRange, DiskError, type Medium } from "../../firmware/disk/medium.ts";
import type { VmConfig } from "../config/vm.ts";
import type { Owned } from "../owned.ts";

/** Memory for the tables of a layer, and unpacked clusters that are kept. */
const tableBytes = 2 ** 20;
const clustersKept = 16;

type DiskConfig = NonNullable<VmConfig["disks"]>[number];
type Disk = Pick<DiskConfig, "path" | "image_type" | "backing_files">;

/** Opens a disk's image to read; what is opened is `owned`. Throws DiskError, without the image's name. */
export function openMedium({ path = "", image_type, backing_files }: Disk, owned: Owned): Medium {
  try {
    const fd = owned.fd(open(path, Open.readOnly | Open.nonBlock));
    const status = fstatSync(fd);
    if (!status.isFile() && !status.isBlockDevice()) {
      throw new DiskError("neither a file nor a block device; name an image");
    }
    const size = status.isFile() ? status.size : deviceBytes(fd);
    const raw = rawMedium(fd, size);
    const start = raw.read(0, Math.min(size, probeBytes));
    const unknown = image_type === undefined || image_type === "Unknown";
    const format = unknown ? probeImage(start) : image_type === "Qcow2" ? "qcow2" : "raw";
    if (format === "raw" || format === "luks") return raw;
    if (format !== "qcow2")
      throw new DiskError(`a ${formatNames[format]} image, which chv does not read`);
    const own = (other: number) => void owned.fd(other);
    const options = { readonly: true, direct: false, backing: backing_files, punch: false, own };
    return new Qcow2Medium(openQcow2(fd, path, options).layers);
  } catch (error) {
    if (error instanceof ImageError) throw new DiskError(error.message);
    if (error instanceof SystemError)
      throw new DiskError(`${error.reason}; name an image that chv may read`);
    throw error;
  }
}

function rawMedium(fd: number, size: number): Medium {
  return {
    size,
    read(offset, length) {
      checkRange(size, offset, length);
      const bytes = new Uint8Array(length);
      readInto(fd, bytes, offset);
      return bytes;
    },
  };
}

/** What lies behind the end of a file that has been cut short meanwhile stays zero. */
function readInto(fd: number, into: Uint8Array, offset: number): void {
  try {
    if (into.length > 0) pread(fd, into, into.length, offset);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    throw new DiskError(`cannot be read at ${offset}: ${error.reason}`);
  }
}

class Qcow2Medium implements Medium {
  readonly size: number;
  readonly #chain: Chain;
  /** What is read of a compressed cluster; it grows to what the largest needs. */
  #packed = new Uint8Array(0);
  /** Unpacked clusters, the one used last at the end. */
  readonly #clusters = new Map<string, Uint8Array>();

  constructor(layers: readonly LayerSpec[]) {
    this.#chain = new Chain(layers.map((layer) => new Layer(layer, tableBytes)));
    this.size = layers[0]!.bytes;
  }

  read(offset: number, length: number): Uint8Array {
    checkRange(this.size, offset, length);
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) done += this.#some(bytes.subarray(done), offset + done);
    return bytes;
  }

  /** Fills the beginning of `into`: how much of it. */
  #some(into: Uint8Array, offset: number): number {
    const chain = this.#chain;
    for (;;) {
      const kind = chain.resolve(0, offset, into.length);
      const number = chain.where[layerAt]!;
      const count = chain.where[bytesAt]!;
      if (kind === Kind.zero) return count; // it is zero already
      const layer = chain.layers[number]!;
      if (kind === Kind.miss) {
        this.#loadTable(layer, offset);
        continue;
      }
      if (kind === Kind.data) {
        readInto(layer.fd, into.subarray(0, count), chain.where[fileAt]!);
        return count;
      }
      if (kind !== Kind.compressed) throw broken("its tables are broken", offset);
      const start = offset % layer.clusterBytes;
      if (start === 0 && count === layer.clusterBytes) {
        this.#unpack(layer, into.subarray(0, count), offset);
        return count;
      }
      const cluster = this.#cluster(number, layer, offset);
      into.set(cluster.subarray(start, start + count));
      return count;
    }
  }

  #loadTable(layer: Layer, offset: number): void {
    const cache = layer.cache!;
    const tag = layer.tagOf(offset);
    const at = layer.hostOf(tag);
    if (at <= 0) throw broken("its tables are broken", offset);
    const slice = cache.claim(tag);
    const { buffer, byteOffset } = cache.view;
    const bytes = new Uint8Array(buffer, byteOffset + slice * layer.sliceBytes, layer.sliceBytes);
    bytes.fill(0);
    readInto(layer.fd, bytes, at);
    cache.loaded(slice);
  }

  /** The cluster whose descriptor the layer has just found. */
  #cluster(number: number, layer: Layer, offset: number): Uint8Array {
    const [high, low] = [layer.entry[0]!, layer.entry[1]!];
    const key = `${number} ${high} ${low}`;
    const known = this.#clusters.get(key);
    this.#clusters.delete(key);
    const cluster = known ?? this.#unpack(layer, new Uint8Array(layer.clusterBytes), offset);
    this.#clusters.set(key, cluster);
    if (this.#clusters.size > clustersKept) {
      this.#clusters.delete(this.#clusters.keys().next().value!);
    }
    return cluster;
  }

  /** Unpacks the cluster whose descriptor the layer has just found. */
  #unpack(layer: Layer, into: Uint8Array, offset: number): Uint8Array {
    const [high, low] = [layer.entry[0]!, layer.entry[1]!];
    const start = packedOffset(layer, high, low);
    const end = Math.min(start + packedBytes(layer, high, low), layer.ends[writtenEnd]!);
    if (end <= start) throw broken("a compressed cluster lies outside the file", offset);
    if (this.#packed.length < end - start) this.#packed = new Uint8Array(end - start);
    const packed = this.#packed.subarray(0, end - start);
    readInto(layer.fd, packed, start);
    const unpacks = layer.spec.tables?.compression === "zstd" ? unpackZstd : unpackDeflate;
    if (!unpacks(packed, into)) throw broken("a compressed cluster is damaged", offset);
    return into;
  }
}

const broken = (what: string, offset: number) =>
  new DiskError(`a broken qcow2 image: ${what} (at ${offset} of the disk); run qemu-img check`);
