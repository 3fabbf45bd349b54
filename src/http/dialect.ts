/**
 * The spellings of a VM's configuration that clients of several generations send: those of early 2020 (`kernel`,
 * `cmdline`, `initramfs` at the top, `sock`, `vsock` as an array) are put into today's on the way in, and the same
 * client gets them back in `vm.info`.
 */
import { ApiError } from "./errors.ts";

type Json = Record<string, unknown>;

/** What a client wrote in the older way. */
export interface Dialect {
  /** `kernel: {path}` and so on, in place of `payload`. */
  readonly topLevelPayload: boolean;
  readonly vsockList: boolean;
  readonly vsockSock: boolean;
  readonly fsSock: boolean;
}

export const today: Dialect = {
  topLevelPayload: false,
  vsockList: false,
  vsockSock: false,
  fsSock: false,
};

const payloadKeys = { kernel: "path", cmdline: "args", initramfs: "path" } as const;
/** What a `fs` without these two meant in early 2020. */
const fsDefaults = { dax: true, cache_size: 8 * 2 ** 30 };

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The same configuration in today's spelling. What is no object is left for the schema to refuse. */
export function fromDialect(json: unknown): { readonly json: unknown; readonly dialect: Dialect } {
  if (!isObject(json)) return { json, dialect: today };
  const config: Json = { ...json };
  const topLevelPayload = liftPayload(config);
  const vsockList = Array.isArray(config.vsock);
  if (vsockList) config.vsock = single(config.vsock as unknown[]);
  const vsockSock = isObject(config.vsock) && "sock" in config.vsock;
  if (vsockSock) config.vsock = rename(config.vsock as Json, "sock", "socket");
  const fs = Array.isArray(config.fs) ? config.fs : [];
  const fsSock = fs.some((one) => isObject(one) && "sock" in one);
  if (fsSock) config.fs = fs.map((one) => (isObject(one) ? olderFs(one) : one));
  return { json: config, dialect: { topLevelPayload, vsockList, vsockSock, fsSock } };
}

function liftPayload(config: Json): boolean {
  let lifted = false;
  for (const [key, inner] of Object.entries(payloadKeys)) {
    const given = config[key];
    if (given === undefined) continue;
    delete config[key];
    if (given === null) continue;
    lifted = true;
    const payload = isObject(config.payload) ? config.payload : {};
    config.payload = { ...payload, [key]: isObject(given) ? given[inner] : given };
  }
  return lifted;
}

function single(list: readonly unknown[]): unknown {
  if (list.length > 1) throw new ApiError(400, "vsock: expected at most one, got several");
  return list[0];
}

function rename(object: Json, from: string, to: string): Json {
  const { [from]: value, ...rest } = object;
  return { ...rest, [to]: value };
}

const olderFs = (fs: Json): Json =>
  "sock" in fs ? { ...fsDefaults, ...rename(fs, "sock", "socket") } : fs;

/** A configuration of today's spelling, as its client spells it. */
export function toDialect(config: object, dialect: Dialect): object {
  const shown: Json = { ...config };
  if (dialect.topLevelPayload) {
    const payload = (shown.payload ?? {}) as Json;
    delete shown.payload;
    for (const [key, inner] of Object.entries(payloadKeys)) {
      if (payload[key] !== undefined) shown[key] = { [inner]: payload[key] };
    }
  }
  if (dialect.vsockSock && isObject(shown.vsock)) {
    shown.vsock = rename(shown.vsock, "socket", "sock");
  }
  if (dialect.vsockList && shown.vsock !== undefined) shown.vsock = [shown.vsock];
  if (dialect.fsSock && Array.isArray(shown.fs)) {
    shown.fs = shown.fs.map((one: Json) => rename(one, "socket", "sock"));
  }
  return shown;
}
