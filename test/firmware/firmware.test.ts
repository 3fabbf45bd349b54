/** `--firmware`: an ELF with a PVH note is loaded where it says; what is none is refused by what it is. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { KernelError } from "../../src/firmware/kernel-error.ts";
import { MiB } from "./fake-ram.ts";
import { bzImage, elf, machine, pattern, poke, pvhNote } from "./images.ts";

/** As edk2 lays CLOUDHV.fd out (OvmfPkg/CloudHv/CloudHvElfHeader.fdf.inc): 4 MiB at 1 MiB, entered near its end. */
const cloudHv = { address: MiB, size: 4 * MiB, entry: 0x4f_ffd0 };

const image = ({ address, size, entry } = cloudHv, notes = pvhNote(entry)) =>
  elf({ entry, segments: [{ address, data: pattern(5000), memorySize: size }], notes });

test("it lies where its ELF says, and is entered at its note with the start info in ebx", () => {
  const { ram, load } = machine();

  const state = load(image(), { firmware: true, cmdline: "root=/dev/vda1" });

  expect(state).toMatchObject({ mode: "protected32", rip: 0x4f_ffd0, notes: [] });
  expect(state.kernelRange).toEqual({ start: MiB, end: 5 * MiB });
  expect(ram.read(MiB, 5000)).toEqual(pattern(5000));
  expect(ram.read(MiB + 5000, 1000)).toEqual(new Uint8Array(1000));
  expect([ram.u32(state.rbx), ram.u32(state.rbx + 4), ram.u32(state.rbx + 12)]).toEqual([
    ...[0x336e_c578, 1, 0],
  ]);
  expect(ram.text(Number(ram.u64(state.rbx + 24)))).toBe("root=/dev/vda1");
  expect(state.rbx).toBeGreaterThanOrEqual(0x1000); // the first page may be cleared
});

describe("refused", () => {
  const why = (file: Uint8Array, regions?: Parameters<typeof machine>[0]) => {
    const { load } = machine(regions);
    let message = "";
    expect(() => {
      try {
        load(file, { firmware: true, kernelPath: "fw" });
      } catch (error) {
        message = (error as Error).message;
        throw error;
      }
    }).toThrow();
    expect(message).toStartWith("Kernel fw: ");
    return message;
  };
  const flash = (fill: (image: Uint8Array) => void) => {
    const bytes = new Uint8Array(2 * MiB);
    fill(bytes);
    return bytes;
  };
  const asIs = "give an ELF image with a PVH note: hypervisor-fw, or edk2's CLOUDHV.fd";

  test("raw images, each by what it is", () => {
    const volume = flash((bytes) => bytes.set(new TextEncoder().encode("_FVH"), 0x28));
    expect(why(volume)).toContain("it is a raw firmware image (an edk2 volume, such as OVMF.fd)");
    for (const jump of [0xe9, 0xea, 0xeb]) {
      const bios = flash((bytes) => poke(bytes, bytes.length - 16, 1, jump));
      expect(why(bios)).toBe(
        `Kernel fw: it is a raw firmware image, for the reset vector; ${asIs}`,
      );
    }
  });

  test("what is no firmware at all", () => {
    expect(why(bzImage(pattern(64)))).toContain("it is a Linux kernel, not a firmware; give it");
    expect(why(pattern(100))).toBe(`Kernel fw: it is no ELF file; ${asIs}`);
    expect(why(new Uint8Array(0))).toContain("it is no ELF file");
    expect(why(flash(() => {}))).toContain("it is no ELF file");
  });

  test("an ELF file without a PVH note, or that does not lie in RAM", () => {
    const plain = elf({ entry: MiB, segments: [{ address: MiB, data: pattern(64) }] });
    expect(why(plain)).toBe(`Kernel fw: it is an ELF file without a PVH note; ${asIs}`);

    const at = (address: number) => image({ address, size: 8192, entry: address });
    expect(why(at(0xf_0000))).toContain("does not lie in free guest RAM"); // SMBIOS is there
    expect(why(at(0x2_0000))).toContain("does not lie in free guest RAM"); // the command line is
    expect(why(at(64 * MiB))).toContain("does not lie in free guest RAM");
    expect(why(image(), [{ start: 0, length: 4 * MiB }])).toContain("give the guest more memory");
  });
});

test("a file with any bytes in its headers is loaded or refused, never a fault", () => {
  const good = image().subarray(0, 4096 + 8192);
  const change = fc.tuple(fc.nat(4096 + 64), fc.nat(255));
  fc.assert(
    fc.property(
      fc.array(change, { minLength: 1, maxLength: 4 }),
      fc.nat(good.length),
      (list, cut) => {
        const bytes = good.slice(0, cut % 3 === 0 ? cut : undefined);
        for (const [at, value] of list) if (at < bytes.length) bytes[at] = value;
        const { load } = machine([{ start: 0, length: 6 * MiB }]);
        try {
          load(bytes, { firmware: true });
        } catch (error) {
          expect(error).toBeInstanceOf(KernelError);
        }
      },
    ),
    { numRuns: 150 },
  );
});

test("a raw image given as a kernel is named, too", () => {
  const bytes = new Uint8Array(2 * MiB);
  bytes.set(new TextEncoder().encode("_FVH"), 0x28);

  expect(() => machine().load(bytes)).toThrow("but a raw firmware image (an edk2 volume");
});
