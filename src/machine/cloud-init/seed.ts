/**
 * The seed of cloud-init's NoCloud data source: what its files hold, made of files of the user's and of what is given
 * in a short form. User data stays as it is, byte for byte: what chv adds goes into meta-data and vendor data.
 */
import { ConfigError } from "../../exit-codes.ts";
import type { CloudInit } from "../config/cloud-init.ts";
import { readSmallFile } from "../small-file.ts";
import { checkUserData, readMapping } from "./check.ts";
import { fatVolume, type SeedFile } from "./fat-writer.ts";

const option = "--cloud-init";
/** cloud-init looks for this label. */
export const seedLabel = "cidata";
/** Of one file; cloud-init's own limit for user data is less. */
const fileBytesMax = 16 * 2 ** 20;

export interface SeedContext {
  /** The machine has a network interface. */
  readonly hasNet: boolean;
  /** A script that begins with #cloud-boothook: run as root, early in each boot, beside all that the user gives. */
  readonly boothook?: string;
  /** Another at each start; if not given it follows from the content, so that the same seed is the same instance. */
  readonly instanceId?: string;
  readonly warn: (line: string) => void;
}

/** The volume. Throws ConfigError. */
export function makeSeed(config: CloudInit, context: SeedContext): Uint8Array {
  const files = seedFiles(config, context);
  const hash = new Bun.CryptoHasher("sha256");
  for (const { content } of files) hash.update(content);
  try {
    return fatVolume(seedLabel, hash.digest().readUInt32LE(0), files);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ConfigError(`${option}: ${error.message}; give smaller files`, option);
  }
}

/** The files of the seed. Throws ConfigError. */
export function seedFiles(config: CloudInit, context: SeedContext): SeedFile[] {
  const { user_data, network_config, ssh_key, hostname } = config;
  const userData =
    user_data === undefined ? encode("#cloud-config\n{}\n") : read("user-data", user_data);
  if (user_data !== undefined) checkUserData(`user-data=${user_data}`, userData, context.warn);
  const networkData = networkConfig(network_config, context.hasNet);
  const vendorData = vendorOf(config, context);
  const given =
    config.meta_data === undefined ? new Uint8Array(0) : read("meta-data", config.meta_data);
  const meta = readMapping(`meta-data=${config.meta_data}`, given);
  const more: Record<string, unknown> = {};
  if (hostname !== undefined) more["local-hostname"] = hostname;
  if (ssh_key !== undefined) more["public-keys"] = publicKeys(ssh_key);
  if (meta["instance-id"] === undefined) {
    const hash = new Bun.CryptoHasher("sha256").update(userData).update(vendorData ?? "");
    hash.update(JSON.stringify([meta, more]));
    more["instance-id"] = context.instanceId ?? `iid-${hash.digest("hex").slice(0, 16)}`;
  }
  // JSON is YAML; what needs nothing added stays as it is
  const metaData =
    Object.keys(more).length === 0
      ? given
      : encode(`${JSON.stringify({ ...meta, ...more }, null, 1)}\n`);
  return [
    { name: "meta-data", content: metaData },
    { name: "user-data", content: userData },
    ...(vendorData ? [{ name: "vendor-data", content: vendorData }] : []),
    ...(networkData ? [{ name: "network-config", content: networkData }] : []),
  ];
}

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Reads one of the user's files. Throws ConfigError. */
function read(key: string, path: string): Uint8Array {
  const fail = (why: string) => new ConfigError(`${option} ${key}=${path}: ${why}`, option);
  try {
    const content = readSmallFile(path, fileBytesMax);
    if (content.length > fileBytesMax) throw fail("more than 16 MiB; give a smaller one");
    return content;
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw fail(`${(error as { code?: string }).code}; name a file that chv may read`);
  }
}

/** Without an interface nothing is configured, and nothing waits for the network. */
function networkConfig(path: string | undefined, hasNet: boolean): Uint8Array | undefined {
  if (path === undefined) return hasNet ? undefined : encode("config: disabled\n");
  const content = read("network-config", path);
  const mapping = readMapping(`network-config=${path}`, content);
  const inner = (mapping.network ?? mapping) as Record<string, unknown>;
  if (inner.version !== 1 && inner.version !== 2 && inner.config !== "disabled") {
    const why = "has no version: 1 or version: 2; add it";
    throw new ConfigError(`${option} network-config=${path}: ${why}`, option);
  }
  return content;
}

/** A key's type and itself, behind options where there are some (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"). */
const keyForm = /^(?:[a-z].* )?(?:ssh-|ecdsa-|sk-)[\w@.-]+ +[A-Za-z0-9+/=]+/;

/** Throws ConfigError. */
function publicKeys(path: string): string[] {
  const lines = new TextDecoder().decode(read("ssh-key", path)).split("\n");
  const keys: string[] = [];
  for (const [i, line] of lines.entries()) {
    const key = line.trim();
    if (key === "" || key.startsWith("#")) continue;
    if (!keyForm.test(key)) {
      const secret = key.includes("PRIVATE KEY");
      const why = secret
        ? "a private key; name the file that ends in .pub"
        : "no public key; name a file of them";
      throw new ConfigError(`${option} ssh-key=${path}: line ${i + 1}: ${why}`, option);
    }
    keys.push(key);
  }
  if (keys.length > 0) return keys;
  throw new ConfigError(
    `${option} ssh-key=${path}: no key in it; name a file of public keys`,
    option,
  );
}

interface Part {
  readonly type: string;
  readonly name: string;
  readonly content: Uint8Array;
}

/** The user's vendor data, the password, and the script: one of them as it is, several as parts of one message. */
function vendorOf(
  { vendor_data, password }: CloudInit,
  { boothook, warn }: SeedContext,
): Uint8Array | undefined {
  const parts: Part[] = [];
  if (vendor_data !== undefined) {
    const content = read("vendor-data", vendor_data);
    checkUserData(`vendor-data=${vendor_data}`, content, warn);
    if (boothook === undefined && password === undefined) return content;
    // cloud-init finds out by itself what a part of this type is
    parts.push({ type: "text/plain", name: "vendor-data", content });
  }
  if (password !== undefined) {
    const config = { password, chpasswd: { expire: false }, ssh_pwauth: true };
    const content = encode(`#cloud-config\n${JSON.stringify(config, null, 1)}\n`);
    parts.push({ type: "text/cloud-config", name: "password", content });
  }
  if (boothook !== undefined) {
    parts.push({ type: "text/cloud-boothook", name: "chv-run", content: encode(boothook) });
  }
  if (parts.length < 2) return parts[0]?.content;
  return encode(message(parts));
}

/** A message of several parts (RFC 2046, section 5.1), each in base64. */
function message(parts: readonly Part[]): string {
  const boundary = "==chv-part==";
  const lines = [
    `Content-Type: multipart/mixed; boundary="${boundary}"`,
    ...["MIME-Version: 1.0", ""],
  ];
  for (const { type, name, content } of parts) {
    lines.push(`--${boundary}`, `Content-Type: ${type}; charset="utf-8"`, "MIME-Version: 1.0");
    lines.push("Content-Transfer-Encoding: base64");
    lines.push(`Content-Disposition: attachment; filename="${name}"`, "");
    lines.push(
      ...(Buffer.from(content)
        .toString("base64")
        .match(/.{1,76}/g) ?? []),
      "",
    );
  }
  return `${[...lines, `--${boundary}--`].join("\n")}\n`;
}
