/** What stands in the seed's files, read as cloud-init reads it: by Python's yaml and email. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { ConfigError } from "../../../src/exit-codes.ts";
import { type SeedContext, seedFiles } from "../../../src/machine/cloud-init/seed.ts";
import type { CloudInit } from "../../../src/machine/config/cloud-init.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-seed-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;
function file(content: string | Uint8Array): string {
  const path = join(folder, `f${count++}`);
  writeFileSync(path, content);
  return path;
}

function seed(config: CloudInit, context: Partial<SeedContext> = {}) {
  const warnings: string[] = [];
  const files = seedFiles(config, {
    hasNet: true,
    warn: (line) => void warnings.push(line),
    ...context,
  });
  const named = Object.fromEntries(
    files.map(({ name, content }) => [name, new TextDecoder().decode(content)]),
  );
  return { files: named, warnings };
}

const why = (config: CloudInit): string => {
  try {
    seed(config);
  } catch (error) {
    if (error instanceof ConfigError) return error.message.replaceAll(/[^= ]*\/f\d+/g, "FILE");
    throw error;
  }
  return "";
};

/** Lines of `type name content` of a message's parts, as Python's email package reads them. */
function parts(message: string): string[] {
  const program = `
import email, sys
for part in email.message_from_bytes(sys.stdin.buffer.read()).walk():
    if part.get_content_maintype() != "multipart":
        print(part.get_content_type(), part.get_filename(), repr(part.get_payload(decode=True).decode()))
`;
  const { stdout, stderr } = Bun.spawnSync(["/usr/bin/python3", "-c", program], {
    stdin: Buffer.from(message),
  });
  expect(stderr.toString()).toBe("");
  return stdout.toString().trimEnd().split("\n");
}

describe("without a word of the user's", () => {
  test("there are the two files that NoCloud wants", () => {
    const { files } = seed({});

    expect(Object.keys(files)).toEqual(["meta-data", "user-data"]);
    expect(files["user-data"]).toBe("#cloud-config\n{}\n");
    expect(JSON.parse(files["meta-data"]!)).toEqual({
      "instance-id": expect.stringMatching(/^iid-[0-9a-f]{16}$/),
    });
  });

  test("the same seed is the same instance, another is another", () => {
    const id = (config: CloudInit) => JSON.parse(seed(config).files["meta-data"]!)["instance-id"];

    expect(id({})).toBe(id({}));
    expect(id({ hostname: "a" })).not.toBe(id({ hostname: "b" }));
    expect(id({ password: "a" })).not.toBe(id({ password: "b" }));
  });

  test("without a network interface, nothing is configured", () => {
    expect(seed({}, { hasNet: false }).files["network-config"]).toBe("config: disabled\n");
  });
});

describe("user data", () => {
  test("stays as it is, byte for byte", () => {
    const text = "#cloud-config\n# mine\npackages: [ vim ]\r\n";

    expect(seed({ user_data: file(text), hostname: "h" }).files["user-data"]).toBe(text);
  });

  test.each([
    ["#!/bin/sh\n: [\n"],
    ["Content-Type: multipart/mixed\n"],
    ["## template: jinja\n#cloud-config\n{{ a"],
    ["#include\nhttp://example.org/a\n"],
  ])("of another form is not read as YAML: %j", (text) => {
    expect(why({ user_data: file(text) })).toBe("");
  });

  test("may be packed", () => {
    expect(why({ user_data: file(Bun.gzipSync(Buffer.from("#cloud-config\na: b\n"))) })).toBe("");
    expect(why({ user_data: file(Bun.gzipSync(Buffer.from("#cloud-config\na: [\n"))) })).toMatch(
      /line 3, column 1/,
    );
  });

  test("with a mistake in it is an error with line and column", () => {
    const text = "#cloud-config\npackages:\n  - vim\n users: [\n";

    expect(why({ user_data: file(text) })).toMatch(
      /^--cloud-init user-data=FILE: line \d, column \d+: .*; mend the YAML$/,
    );
    expect(why({ user_data: file('#cloud-config\na: "b\n') })).toMatch(
      /line \d, column \d+: .*quote/i,
    );
    expect(why({ user_data: file("#cloud-config\na: 1\na: 2\n") })).toMatch(
      /line 3, column 1: .*unique/i,
    );
  });

  test.each([
    ["packages: [vim]\n", /line 1, column 1: does not begin with #cloud-config/],
    ["#cloudconfig\npackages: [vim]\n", /line 1, column 1: does not begin with #cloud-config/],
    ["", /does not begin with #cloud-config/],
    ["#cloud-config\n- vim\n", /no mapping; write KEY: VALUE lines/],
    ["\ufeff#cloud-config\n", /byte order mark/],
  ])("that cloud-init would pass over is an error: %j", (text, message) => {
    expect(why({ user_data: file(text) })).toMatch(message);
  });

  test("that is no text, or not there, is an error", () => {
    expect(why({ user_data: file(Uint8Array.of(0x23, 0xff, 0xfe)) })).toMatch(/not UTF-8/);
    expect(why({ user_data: "/nowhere" })).toMatch(/user-data=\/nowhere: ENOENT; name a file/);
  });

  test("with a key that cloud-init does not know gives a warning", () => {
    const { warnings } = seed({ user_data: file("#cloud-config\npackage: [vim]\nruncmd: []\n") });

    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toEndWith('cloud-init has no key "package"');
  });
});

describe("meta-data", () => {
  test("of the user's stays as it is where nothing is added", () => {
    const text = "instance-id: mine\nlocal-hostname: there # ok\n";

    expect(seed({ meta_data: file(text) }).files["meta-data"]).toBe(text);
  });

  test("gets host name and keys, and an instance where it names none", () => {
    const keys = file("# me\nssh-ed25519 AAAAC3Nz me@here\n\necdsa-sha2-nistp256 AAAAE2== you\n");
    const { files } = seed(
      { meta_data: file("foo: [1, two]\n"), hostname: "web-1", ssh_key: keys },
      { instanceId: "fresh" },
    );

    const read = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))";
    const python = Bun.spawnSync(["/usr/bin/python3", "-c", read], {
      stdin: Buffer.from(files["meta-data"]!),
    });
    expect(JSON.parse(python.stdout.toString())).toEqual({
      foo: [1, "two"],
      "local-hostname": "web-1",
      "public-keys": ["ssh-ed25519 AAAAC3Nz me@here", "ecdsa-sha2-nistp256 AAAAE2== you"],
      "instance-id": "fresh",
    });
  });

  test.each([
    "ssh-ed25519 AAAAC3Nz me@home",
    "ecdsa-sha2-nistp256 AAAAE2Vj",
    "sk-ssh-ed25519@openssh.com AAAAGnNr me",
    "restrict ssh-ed25519 AAAAC3Nz me@home",
    "no-pty,no-x11-forwarding ssh-rsa AAAAB3Nz",
    'command="echo hi there",no-pty ssh-rsa AAAAB3Nz',
    'cert-authority,principals="a,b" ssh-rsa AAAAB3Nz',
  ])("a public key as sshd takes it: %s", (key) => {
    const { files } = seed({ ssh_key: file(`${key}\n`) });
    expect(JSON.parse(`${files["meta-data"]}`)["public-keys"]).toEqual([key]);
  });

  test.each([
    [
      "-----BEGIN OPENSSH PRIVATE KEY-----\n",
      /line 1: a private key; name the file that ends in .pub/,
    ],
    ["\nhello\n", /line 2: no public key/],
    ["# nothing\n", /no key in it/],
  ])("a file that holds no public keys is an error: %j", (text, message) => {
    expect(why({ ssh_key: file(text) })).toMatch(message);
  });
});

test("network configuration is checked as far as its version", () => {
  const good = "network:\n  version: 2\n  ethernets: {}\n";

  expect(seed({ network_config: file(good) }, { hasNet: false }).files["network-config"]).toBe(
    good,
  );
  expect(why({ network_config: file("ethernets: {}\n") })).toMatch(/no version: 1 or version: 2/);
  expect(why({ network_config: file("a: [\n") })).toMatch(/line 2, column 1/);
});

describe("vendor data", () => {
  test("alone is what it is", () => {
    expect(seed({}, { boothook: "#cloud-boothook\n#!/bin/sh\n" }).files["vendor-data"]).toBe(
      "#cloud-boothook\n#!/bin/sh\n",
    );
    const text = "#cloud-config\nntp: {}\n";
    expect(seed({ vendor_data: file(text) }).files["vendor-data"]).toBe(text);
  });

  test("of several origins is a message of several parts", () => {
    const { files } = seed(
      { vendor_data: file("#cloud-config\nntp: {}\n"), password: "p: 'x\"" },
      { boothook: "#cloud-boothook\n#!/bin/sh\necho ünï\n" },
    );

    const [own, password, script] = parts(files["vendor-data"]!);
    expect(own).toBe("text/plain vendor-data '#cloud-config\\nntp: {}\\n'");
    expect(password).toStartWith("text/cloud-config password '#cloud-config\\n");
    expect(password).toContain("p: \\'x\\\\\"");
    expect(script).toBe("text/cloud-boothook chv-run '#cloud-boothook\\n#!/bin/sh\\necho ünï\\n'");
  });
});

test("whatever a file holds, the answer is a seed or an error of one line", () => {
  const start = fc.constantFrom("#cloud-config\n", "#!", "\x1f\x8b", "a: ", "");
  const yaml = fc.array(
    fc.constantFrom(
      "a",
      ": ",
      "- ",
      "\n",
      "  ",
      "[",
      "{",
      "}",
      "&x ",
      "*x ",
      "? ",
      "|",
      "'",
      "!t ",
      "%",
    ),
    { maxLength: 30 },
  );
  const bytes = fc.uint8Array({ maxLength: 60 }).map((all) => Buffer.from(all).toString("latin1"));
  const text = fc.oneof(
    yaml.map((words) => words.join("")),
    bytes,
  );
  fc.assert(
    fc.property(start, text, fc.constantFrom("user_data", "meta_data", "ssh_key"), (a, b, key) => {
      expect(why({ [key]: file(Buffer.from(a + b, "latin1")) })).toMatch(/^.*$/);
    }),
    { numRuns: 300 },
  );
});
