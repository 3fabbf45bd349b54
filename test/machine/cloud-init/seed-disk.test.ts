/** The seed's disk as the machine opens it. */
import { expect, test } from "bun:test";
import * as v from "valibot";
import { parseCommandLine } from "../../../src/cli/command-line.ts";
import { ConfigError } from "../../../src/exit-codes.ts";
import { pread } from "../../../src/ffi/file.ts";
import { type BootConfig, complete, VmConfigSchema } from "../../../src/machine/config/vm.ts";
import { Owned } from "../../../src/machine/owned.ts";
import { openSeed } from "../../../src/machine/virtio/seed.ts";

const config = (cloud_init?: object): BootConfig =>
  complete(
    v.parse(VmConfigSchema, { payload: { kernel: "k" }, cloud_init, disks: [{ path: "a" }] }),
  ) as BootConfig;

test("it is a read-only disk that holds a volume named cidata", () => {
  const owned = new Owned();
  const [device] = openSeed(config({ hostname: "web-1" }), owned);
  const { backend, id, label } = device!;
  if (backend.kind !== "block") throw new Error(backend.kind);
  const { fd, readonly, serial, sectors } = backend.spec;
  const bytes = new Uint8Array(sectors * 512);
  pread(fd, bytes, bytes.length, 0);
  owned.close();

  expect({ id, label, readonly, serial }).toEqual({
    ...{ id: "_cloud-init", label: "--cloud-init", readonly: true, serial: "cloud-init" },
  });
  const text = Buffer.from(bytes).toString("latin1");
  expect(text.slice(43, 54)).toBe("cidata     ");
  expect(text).toContain('"local-hostname": "web-1"');
});

test("there is none if none is asked for, and nothing stays open when it cannot be made", () => {
  const owned = new Owned();

  expect(openSeed(config(), owned)).toEqual([]);
  expect(() => openSeed(config({ user_data: "/nowhere" }), owned)).toThrow(ConfigError);
});

test("the command line spells its keys with dashes", () => {
  const line = parseCommandLine([
    ...["--kernel", "k", "--cloud-init"],
    "user-data=u,meta-data=m,network-config=n,vendor-data=v,ssh-key=s,hostname=h.example,password=p",
  ]);
  if (line.kind !== "boot") throw new Error(line.kind);

  expect(line.config.cloud_init).toEqual({
    ...{ user_data: "u", meta_data: "m", network_config: "n", vendor_data: "v" },
    ...{ ssh_key: "s", hostname: "h.example", password: "p" },
  });
  expect(() => parseCommandLine(["--kernel", "k", "--cloud-init", "hostname=-a"])).toThrow(
    /hostname=-a is not a host name/,
  );
});
