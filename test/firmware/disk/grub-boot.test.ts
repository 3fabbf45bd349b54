// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are GRUB's variables
/** Which entry GRUB's configurations boot, and with what: Ubuntu's layouts, grub-mkconfig's own, Fedora's. */
import { describe, expect, test } from "bun:test";
import { bootSetupOf } from "../../../src/firmware/disk/boot-disk.ts";
import { Volumes } from "../../../src/firmware/disk/volumes.ts";
import { disk, esp, type Tree } from "./trees.ts";
import { grubenv, stub, type UbuntuOptions, ubuntuConfig } from "./ubuntu.ts";

const uuid = "8a7c1f0e-3a0d-4a63-9a5e-1f2b3c4d5e6f";
const bootUuid = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f0";
const partUuid = "11111111-2222-4333-8444-555555555555";
const [newest, older] = ["6.8.0-31-generic", "6.8.0-22-generic"];

/** Kernels and what belongs to them, under a folder. */
const kernels = (folder: string): Record<string, string> =>
  Object.fromEntries(
    [newest, older].flatMap((version) => [
      [`${folder}/vmlinuz-${version}`, `kernel ${version}`],
      [`${folder}/initrd.img-${version}`, `initrd ${version}`],
    ]),
  );

const config: UbuntuOptions = { kernels: [newest!, older!], uuid, boot: "/boot" };

/** 18.04 to 22.04: root, BIOS boot, ESP. */
function oneRoot(options: Partial<UbuntuOptions> = {}, more: Record<string, string> = {}) {
  const root: Tree = {
    ...{ number: 1, label: "cloudimg-rootfs", uuid, partUuid },
    files: {
      ...kernels("/boot"),
      "/boot/grub/grub.cfg": ubuntuConfig({ ...config, ...options }),
      "/boot/grub/gfxblacklist.txt": "v1234",
      ...more,
    },
  };
  const uefi: Tree = {
    ...{ number: 15, type: "vfat", label: "UEFI", uuid: "AB12-CD34", gptType: esp },
    files: { "/EFI/ubuntu/grub.cfg": stub(uuid, "/boot/grub"), "/EFI/BOOT/BOOTX64.EFI": "MZ" },
  };
  return [root, uefi] as const;
}

/** 24.04: /boot has a partition of its own. */
function ownBoot(options: Partial<UbuntuOptions> = {}) {
  const files = {
    ...kernels(""),
    "/grub/grub.cfg": ubuntuConfig({ ...config, uuid: bootUuid, boot: "", ...options }),
  };
  return [
    { ...{ number: 1, label: "cloudimg-rootfs", uuid, partUuid }, files: { "/etc/fstab": "" } },
    {
      ...{ number: 15, type: "vfat", label: "UEFI", uuid: "AB12-CD34", gptType: esp },
      files: { "/EFI/ubuntu/grub.cfg": stub(bootUuid, "/grub") },
    },
    { ...{ number: 16, label: "BOOT", uuid: bootUuid }, files },
  ] as const satisfies readonly Tree[];
}

const text = (file: { read(): Uint8Array }) => new TextDecoder().decode(file.read());

describe("Ubuntu's layouts", () => {
  test("one root, found by way of the ESP", () => {
    const setup = bootSetupOf(disk(...oneRoot()));

    expect(setup).toMatchObject({
      loader: "GRUB",
      title: "Ubuntu",
      config: '/boot/grub/grub.cfg of partition 1 (ext4 "cloudimg-rootfs")',
      cmdline: `BOOT_IMAGE=/boot/vmlinuz-${newest} root=LABEL=cloudimg-rootfs ro console=tty1 console=ttyS0 vt.handoff=7`,
      root: 'partition 1 (ext4 "cloudimg-rootfs")',
      rootPartUuid: partUuid,
      notes: [],
    });
    expect(text(setup.kernel)).toBe(`kernel ${newest}`);
    expect(setup.initrds.map(text)).toEqual([`initrd ${newest}`]);
  });

  test("one root, without an ESP", () => {
    const [root] = oneRoot();
    expect(bootSetupOf(disk(root)).title).toBe("Ubuntu");
  });

  test("/boot on a partition of its own, with an ESP and without", () => {
    const [root, uefi, boot] = ownBoot();
    for (const trees of [
      [root, uefi, boot],
      [root, boot],
    ]) {
      const setup = bootSetupOf(disk(...trees));
      expect(setup).toMatchObject({
        config: '/grub/grub.cfg of partition 16 (ext4 "BOOT")',
        root: 'partition 1 (ext4 "cloudimg-rootfs")',
      });
      expect(setup.cmdline).toStartWith(`BOOT_IMAGE=/vmlinuz-${newest} root=LABEL=`);
      expect(setup.kernel).toMatchObject({ path: `/vmlinuz-${newest}`, place: "partition 16" });
    }
  });

  test("a stub that finds nothing is a note, and what is on the partitions counts", () => {
    const [root, uefi] = oneRoot();
    const lost = { ...uefi, files: { "/EFI/ubuntu/grub.cfg": stub(bootUuid, "/boot/grub") } };
    const setup = bootSetupOf(disk(root, lost));

    expect(setup.title).toBe("Ubuntu");
    expect(setup.notes[0]).toContain(`no partition with fs-uuid ${bootUuid}`);
  });

  test("of the start without an initramfs the branch with it is taken at once", () => {
    for (const trees of [oneRoot({ partUuid }), ownBoot({ partUuid })]) {
      const setup = bootSetupOf(disk(...trees));
      expect(setup.initrds).toHaveLength(1);
      expect(setup.cmdline).toContain(`root=PARTUUID=${partUuid}`);
      expect(setup.cmdline).not.toContain("panic=-1");
      expect(setup.root).toContain("partition 1");
    }
  });
});

describe("the default entry", () => {
  const booted = (more: Record<string, string>, entry?: string) =>
    bootSetupOf(disk(oneRoot({}, more)[0]), entry).title;
  const withEnv = (values: Record<string, string>) => ({
    "/boot/grub/grubenv": grubenv(values),
  });
  const advanced = `gnulinux-advanced-${uuid}>gnulinux-${older}-advanced-${uuid}`;
  const olderTitle = `Advanced options for Ubuntu>Ubuntu, with Linux ${older}`;

  test("next_entry of the environment block, by ids, titles or numbers", () => {
    expect(booted(withEnv({ next_entry: advanced }))).toBe(olderTitle);
    expect(booted(withEnv({ next_entry: olderTitle }))).toBe(olderTitle);
    expect(booted(withEnv({ next_entry: "1>2" }))).toBe(olderTitle);
    expect(booted(withEnv({ next_entry: "" }))).toBe("Ubuntu");
  });

  test("prev_entry, where a start without an initramfs had failed", () => {
    expect(booted(withEnv({ initrdfail: "1", prev_entry: advanced }))).toBe(olderTitle);
  });

  test("saved_entry, where the configuration says so", () => {
    const cfg = ubuntuConfig(config).replace('set default="0"', 'set default="${saved_entry}"');
    const files = { "/boot/grub/grub.cfg": cfg, ...withEnv({ saved_entry: advanced }) };
    expect(booted(files)).toBe(olderTitle);
  });

  test("one that is not in the menu is told of, and the first one taken", () => {
    const setup = bootSetupOf(disk(oneRoot({}, withEnv({ next_entry: "gone" }))[0]));
    expect(setup.title).toBe("Ubuntu");
    expect(setup.notes).toEqual([
      'the default entry "gone" is not in the menu: the first is taken',
    ]);
  });

  test.each([
    ["0", "Ubuntu"],
    ["1", `Advanced options for Ubuntu>Ubuntu, with Linux ${newest}`],
    ["1>2", olderTitle],
    [olderTitle, olderTitle],
    [advanced, olderTitle],
    [`Ubuntu, with Linux ${older}`, olderTitle],
    [`gnulinux-${older}-advanced-${uuid}`, olderTitle],
  ])("another is chosen by %j", (wanted, title) => {
    expect(booted({}, wanted)).toBe(title);
  });

  test("a name that there is not is an error with those that there are", () => {
    expect(() => booted({}, "nope")).toThrow(
      `/boot/grub/grub.cfg: no entry "nope"; there are "Ubuntu", "Advanced options for Ubuntu"`,
    );
    expect(() => booted({}, "7")).toThrow('no entry "7"');
  });
});

const minimal = (body: string, more: Record<string, string> = {}) =>
  disk({
    ...{ number: 1, label: "root", uuid },
    files: { "/k": "K", "/i": "I", "/j": "J", "/boot/grub/grub.cfg": body, ...more },
  });

describe("commands of entries", () => {
  const line = (body: string) => bootSetupOf(minimal(`menuentry x {\n${body}\n}`)).cmdline;

  test("words are put together as GRUB does", () => {
    // as GRUB 2.06's lib/cmdline.c: quotes where there are blanks, a backslash before quotes
    expect(line(`linux /k a="b c" 'd\\e' "f'g" h\\x20i`)).toBe(
      `BOOT_IMAGE=/k "a=b c" d\\\\e f\\'g hx20i`,
    );
    expect(line("linux (hd0,gpt1)/k a")).toBe("BOOT_IMAGE=(hd0,gpt1)/k a");
  });

  test("several initrd files become one archive, in order", () => {
    const { initrds } = bootSetupOf(minimal("menuentry x {\nlinux /k\ninitrd /i /j\n}"));
    expect(initrds.map(text)).toEqual(["I", "J"]);
  });

  test("linux16 and linuxefi are linux", () => {
    expect(line("linux16 /k a\ninitrd16 /i")).toBe("BOOT_IMAGE=/k a");
    expect(line("linuxefi /k a\ninitrdefi /i")).toBe("BOOT_IMAGE=/k a");
  });

  test("a script without a menu boots what it loads", () => {
    expect(bootSetupOf(minimal("linux /k a\ninitrd /i\nboot")).cmdline).toBe("BOOT_IMAGE=/k a");
  });

  test("source reads on, configfile starts over; what is not exported is left behind", () => {
    const other = 'menuentry "v=$v e=$e" {\nlinux /k v=$v\n}';
    const files = { "/o.cfg": other };
    const boot = (last: string) =>
      bootSetupOf(minimal(`v=1\ne=2\nexport e\n${last}\nmenuentry late { }`, files)).title;
    expect(boot("source /o.cfg")).toBe("v=1 e=2");
    expect(boot("configfile /o.cfg")).toBe("v= e=2");
  });

  test("probe tells of a partition", () => {
    expect(line("probe --set=u --fs-uuid $root\nlinux /k root=UUID=$u")).toContain(uuid);
  });

  test.each([
    [
      "menuentry x {\nlinux /none\n}",
      `/boot/grub/grub.cfg:1: the entry "x" loads no kernel (/boot/grub/grub.cfg:2: no /none on partition 1 (ext4 "root"))`,
    ],
    [
      "menuentry x {\nchainloader +1\n}",
      `/boot/grub/grub.cfg:2: chainloader, which chv does not do`,
    ],
    [
      "menuentry x {\nlinux /k\ninitrd /none\n}",
      `/boot/grub/grub.cfg:3: no /none on partition 1 (ext4 "root")`,
    ],
    [
      "menuentry x {\nlinux /k\ninitrd newc:a:/i\n}",
      "/boot/grub/grub.cfg:3: chv does not know initrd newc:a:/i",
    ],
    ["set default=0", "(hd0,gpt1)/boot/grub/grub.cfg: no menu entries"],
    ["menuentry x {\nlinux (hd1,gpt1)/k\n}", "there is no hd1,gpt1 for /k"],
  ])("%j is an error that says what was looked for, and where", (body, message) => {
    expect(() => bootSetupOf(minimal(body))).toThrow(message);
  });

  test("a root that is not on the disk is told of", () => {
    const { notes, root } = bootSetupOf(minimal("menuentry x {\nlinux /k root=LABEL=gone\n}"));
    expect(root).toBeUndefined();
    expect(notes).toEqual([
      'root device LABEL=gone is not on this disk (GPT: partition 1 (ext4 "root"))',
    ]);
  });
});

describe("blscfg", () => {
  const entryFile = (version: string) =>
    `title Fedora Linux (${version})\nversion ${version}\nlinux /k\ninitrd /i $tuned_initrd\noptions root=UUID=${uuid} $kernelopts\n`;
  const cfg = `load_env -f $prefix/grubenv
if [ "\${next_entry}" ] ; then
  set default="\${next_entry}"
else
  set default="\${saved_entry}"
fi
set kernelopts="console=ttyS0 quiet"
insmod blscfg
blscfg
`;
  const fedora = (env: Record<string, string>) =>
    disk({
      ...{ number: 2, uuid },
      files: {
        "/k": "K",
        "/i": "I",
        "/grub2/grub.cfg": cfg,
        "/grub2/grubenv": grubenv(env),
        "/loader/entries/m-6.5.6-300.conf": entryFile("6.5.6"),
        "/loader/entries/m-6.10.2-100.conf": entryFile("6.10.2"),
      },
    });

  test("the newest entry first, with variables filled in", () => {
    const setup = bootSetupOf(fedora({}));
    expect(setup.title).toBe("Fedora Linux (6.10.2)");
    expect(setup.cmdline).toBe(`BOOT_IMAGE=(hd0,gpt2)/k root=UUID=${uuid} console=ttyS0 quiet`);
    expect(setup.initrds).toHaveLength(1);
  });

  test("Fedora's stub on the ESP leads to it", () => {
    const lead = `search --no-floppy --root-dev-only --fs-uuid --set=dev ${uuid}
set prefix=($dev)/grub2
export $prefix
configfile $prefix/grub.cfg
`;
    const [boot] = fedora({ saved_entry: "m-6.5.6-300" }).all;
    const uefi = disk({
      ...{ number: 1, type: "vfat", gptType: esp },
      files: { "/EFI/fedora/grub.cfg": lead },
    });
    const setup = bootSetupOf(new Volumes([...uefi.all, boot!], uefi.table));
    expect([setup.title, setup.notes]).toEqual(["Fedora Linux (6.5.6)", []]);
  });

  test("the saved one by its file's name", () => {
    expect(bootSetupOf(fedora({ saved_entry: "m-6.5.6-300" })).title).toBe("Fedora Linux (6.5.6)");
  });
});
