import { expect, test } from "bun:test";
import * as v from "valibot";
import { objectOf, optionsOf } from "../../../src/cli/option-table.ts";
import {
  type FieldShape,
  fieldsOf,
  keysOf,
  type ObjectSchema,
} from "../../../src/machine/config/shape.ts";
import { unbuilt } from "../../../src/machine/config/unbuilt.ts";
import { VmConfigSchema } from "../../../src/machine/config/vm.ts";
import { VmmOptionsSchema } from "../../../src/machine/config/vmm.ts";

const roots: ObjectSchema[] = [VmConfigSchema, VmmOptionsSchema];
const options = roots.flatMap((root) => optionsOf(root));

test("a body in Cloud Hypervisor's JSON is taken as it is", () => {
  const body = {
    cpus: {
      boot_vcpus: 1,
      max_vcpus: 4,
      topology: { cores_per_die: 4, dies_per_package: 1, packages: 1, threads_per_core: 1 },
    },
    memory: { size: 536870912, hotplug_size: 2147483648, hotplug_method: "Acpi", shared: true },
    payload: { cmdline: "panic=1", kernel: "/k" },
    disks: [{ path: "/d", readonly: true, image_type: "Raw", num_queues: 1, queue_size: 128 }],
    net: [{ mac: "52:54:00:12:34:56", num_queues: 2, queue_size: 256 }],
    fs: [{ tag: "kataShared", socket: "/s", num_queues: 1, queue_size: 1024, pci_segment: 1 }],
    vsock: { cid: 3, socket: "/v", iommu: false },
    rng: { src: "/dev/urandom", iommu: false },
    serial: { mode: "Off", iommu: false },
    console: { mode: "Off", iommu: false },
    platform: { num_pci_segments: 2 },
    balloon: { size: 0, deflate_on_oom: false, free_page_reporting: true },
    watchdog: false,
    pvpanic: false,
  };

  expect(v.parse(VmConfigSchema, body)).toMatchObject(body as never);
});

test.each<[unknown, string]>([
  [{ cpus: { boot_vcpus: "1" } }, "cpus.boot_vcpus"],
  [{ memory: { size: -1 } }, "memory.size"],
  [{ memory: { size: 1.5 } }, "memory.size"],
  [{ memory: { size: 2 ** 53 } }, "memory.size"],
  [{ serial: { mode: "tty" } }, "serial.mode"],
  [{ disks: [{ path: "a\0b" }] }, "disks.0.path"],
  [{ payload: { kernel: "" } }, "payload.kernel"],
  [{ vsock: { cid: 2, socket: "/s" } }, "vsock.cid"],
])("%j is refused at %s", (body, at) => {
  const result = v.safeParse(VmConfigSchema, body);

  expect(result.success).toBeFalse();
  expect(v.getDotPath(result.issues![0])).toBe(at);
});

test("every option and key has a description, and a name of its own", () => {
  const names = options.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const { field } of options) {
    const schema = objectOf(field!);
    const keys = schema === undefined ? [] : keysOf(schema);
    expect(field!.description).not.toBe("");
    for (const key of keys) expect(key.field.description).not.toBe("");
    const all = keys.flatMap(({ key, field: one }) => [key, ...(one.spelling.aliases ?? [])]);
    expect(new Set(all).size).toBe(all.length);
  }
});

test("every default satisfies its own schema", () => {
  const walk = (schema: ObjectSchema) => {
    for (const field of fieldsOf(schema)) {
      if (field.default !== undefined) {
        expect(v.safeParse(field.schema, field.default).success).toBeTrue();
      }
      if (field.shape.kind === "object") walk(field.shape.schema);
    }
  };
  for (const root of roots) walk(root);
});

test("every entry of the table of unbuilt options names an option that there is", () => {
  const names = new Set(options.map(({ name }) => `--${name}`));
  /** What only the API has is named as it is in JSON. */
  const known = (path: string): boolean => {
    const steps = path.replace(/:.*/, "").split(".");
    let schema: ObjectSchema | undefined = VmConfigSchema;
    return steps.every((step) => {
      const field: FieldShape | undefined = schema && fieldsOf(schema).find((f) => f.name === step);
      schema = field?.shape.kind === "object" ? field.shape.schema : undefined;
      return field !== undefined;
    });
  };

  for (const { option } of unbuilt) {
    const [name = ""] = option.split(" ");
    if (name.startsWith("--")) expect(names).toContain(name);
    else expect([name, known(name)]).toEqual([name, true]);
  }
});
