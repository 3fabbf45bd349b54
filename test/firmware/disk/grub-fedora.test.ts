// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are GRUB's variables
/** grub.cfg of Fedora and its kin: entries of the Boot Loader Specification, and configurations that never change. */
import { describe, expect, test } from "bun:test";
import { bootSetupOf } from "../../../src/firmware/disk/boot-disk.ts";
import { disk, esp, type Tree } from "./trees.ts";
import { grubenv } from "./ubuntu.ts";

const root = "8a7c1f0e-3a0d-4a63-9a5e-1f2b3c4d5e6f";
const boot = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f0";
const text = (file: { read(): Uint8Array }) => new TextDecoder().decode(file.read());

function booted(...trees: readonly Tree[]) {
  const { title, cmdline, notes, kernel, initrds } = bootSetupOf(disk(...trees));
  return { title, cmdline, notes: [...notes], files: [kernel, ...initrds].map(text) };
}

describe("Fedora and its kin", () => {
  const id = "3f9b5f1f1f5e4a0f9f0b6f1c3b5d7e9a-6.5.6-300.fc39.x86_64";
  const entry = (options: string) => `title Fedora Linux (6.5.6-300.fc39.x86_64) 39 (Cloud Edition)
version 6.5.6-300.fc39.x86_64
linux /vmlinuz-6.5.6
initrd /initramfs-6.5.6.img $tuned_initrd
options ${options}
grub_users $grub_users
grub_arg --unrestricted
grub_class fedora
`;
  const rescue = `title Fedora Linux (0-rescue)
version 0-rescue
linux /vmlinuz-0-rescue
options root=UUID=${root}
`;
  /** As grub2-mkconfig of Fedora 33 and later writes it. */
  const config = `set pager=1

if [ -f \${config_directory}/grubenv ]; then
  load_env -f \${config_directory}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "\${next_entry}" ] ; then
   set default="\${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="\${saved_entry}"
fi
set tuned_params=""
set tuned_initrd=""
if [ -f \${prefix}/user.cfg ]; then
  source \${prefix}/user.cfg
  if [ -n "\${GRUB2_PASSWORD}" ]; then
    set superusers="root"
    export superusers
    password_pbkdf2 root \${GRUB2_PASSWORD}
  fi
fi
insmod increment
# Check if boot_counter exists and boot_success=0 to activate this behaviour.
if [ -n "\${boot_counter}" -a "\${boot_success}" = "0" ]; then
  # if countdown has ended, choose to boot rollback deployment,
  # i.e. default=1 on OSTree-based systems.
  if  [ "\${boot_counter}" = "0" -o "\${boot_counter}" = "-1" ]; then
    set default=1
    set boot_counter=-1
  # otherwise decrement boot_counter
  else
    decrement boot_counter
  fi
  save_env boot_counter
fi
insmod part_gpt
set root='hd0,gpt2'
if [ x$feature_platform_search_hint = xy ]; then
  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2 --hint-efi=hd0,gpt2 --hint-baremetal=ahci0,gpt2  ${boot}
else
  search --no-floppy --fs-uuid --set=root ${boot}
fi
set boot='hd0,gpt2'
search --no-floppy --fs-uuid --set=boot --hint-bios=hd0,gpt2  ${boot}
if [ -z "\${kernelopts}" ]; then
  set kernelopts="root=UUID=${root} ro console=tty1 console=ttyS0,115200n8 "
fi
insmod blscfg
blscfg
if [ "\${boot_success}" = "1" -o "\${boot_indeterminate}" = "1" ]; then
  set menu_hide_ok=1
else
  set menu_hide_ok=0 
fi
if [ "\${boot_success}" = "1" ] ; then
  set boot_indeterminate=0
elif [ "\${boot_indeterminate}" = "1" ]; then
  set boot_indeterminate=2
fi
set boot_success=0
save_env boot_success boot_indeterminate
if [ x$feature_timeout_style = xy ] ; then
  if [ "\${menu_show_once}" ]; then
    unset menu_show_once
    save_env menu_show_once
    set timeout_style=menu
    set timeout=60
  elif [ "\${menu_auto_hide}" -a "\${menu_hide_ok}" = "1" ]; then
    set orig_timeout_style=\${timeout_style}
    set timeout_style=hidden
    set timeout=1
  fi
fi
`;
  const onBoot = (env: Record<string, string>, options: string): Tree => ({
    ...{ number: 2, label: "boot", uuid: boot },
    files: {
      "/grub2/grub.cfg": config,
      "/grub2/grubenv": grubenv(env),
      [`/loader/entries/${id}.conf`]: entry(options),
      "/loader/entries/3f9b5f1f1f5e4a0f9f0b6f1c3b5d7e9a-0-rescue.conf": rescue,
      "/loader/entries/for-efi.conf": "title Something else\nefi /EFI/other.efi\n",
      ...{ "/vmlinuz-6.5.6": "K", "/initramfs-6.5.6.img": "I", "/vmlinuz-0-rescue": "R" },
    },
  });
  const rootTree: Tree = { number: 4, uuid: root, files: { "/etc/fstab": "" } };

  test.each([
    ["Fedora", {}, `root=UUID=${root} rootflags=subvol=root no_timer_check console=ttyS0,115200n8`],
    ["RHEL 8", { saved_entry: id, boot_success: "0" }, "$kernelopts $tuned_params"],
  ])("%s", (_, env, options) => {
    const words = options.replace("$kernelopts $tuned_params", "").trim();
    const told = words || `root=UUID=${root} ro console=tty1 console=ttyS0,115200n8`;
    expect(booted(onBoot(env, options), rootTree)).toEqual({
      title: "Fedora Linux (6.5.6-300.fc39.x86_64) 39 (Cloud Edition)",
      cmdline: `BOOT_IMAGE=(hd0,gpt2)/vmlinuz-6.5.6 ${told}`,
      ...{ notes: [], files: ["K", "I"] },
    });
  });

  test("a boot that is counted down takes the second entry", () => {
    const env = { boot_counter: "0", boot_success: "0" };
    expect(booted(onBoot(env, "a=b"), rootTree).title).toBe("Fedora Linux (0-rescue)");
  });

  /** The configuration that never changes, of Fedora CoreOS and of bootupd. */
  const unchanging = `set pager=1
if [ -d (md/md-boot)/grub2 ]; then
  set boot=md/md-boot
  set prefix=($boot)/grub2
else
  if [ -f \${config_directory}/bootuuid.cfg ]; then
    source \${config_directory}/bootuuid.cfg
  fi
  if [ -n "\${BOOT_UUID}" ]; then
    search --fs-uuid "\${BOOT_UUID}" --set boot --no-floppy
  else
    search --label boot --set boot --no-floppy
  fi
fi
set root=$boot
if [ -f \${config_directory}/grubenv ]; then
  load_env -f \${config_directory}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
if [ -f $prefix/console.cfg ]; then
  source $prefix/console.cfg
fi
menuentry_id_option="--id"
set ignition_firstboot=""
if [ -f "/ignition.firstboot" ]; then
    set ignition_network_kcmdline=''
    source "/ignition.firstboot"
    set ignition_firstboot="ignition.firstboot \${ignition_network_kcmdline}"
fi
blscfg
`;
  const ostree = `title Fedora CoreOS 39 (ostree:0)
version 1
options rw $ignition_firstboot ostree=/ostree/boot.1/x/0 ignition.platform.id=qemu root=UUID=${root}
linux /ostree/vmlinuz
initrd /ostree/initramfs.img
`;

  test.each([
    ["by the label", {}, "ignition.firstboot "],
    ["by the UUID", { "/grub2/bootuuid.cfg": `set BOOT_UUID="${boot}"\n` }, "ignition.firstboot "],
  ])("CoreOS finds its /boot %s", (_, more, first) => {
    const tree: Tree = {
      ...{ number: 3, label: "boot", uuid: boot },
      files: {
        "/grub2/grub.cfg": unchanging,
        "/grub2/console.cfg": "serial --speed=115200\nterminal_input serial console\n",
        "/ignition.firstboot": "",
        "/loader/entries/ostree-1-fedora-coreos.conf": ostree,
        ...{ "/ostree/vmlinuz": "K", "/ostree/initramfs.img": "I", ...more },
      },
    };
    const stub = `if [ -e (md/md-boot) ]; then
  set prefix=md/md-boot
else
  search --label boot --set prefix --no-floppy
fi
if [ -d ($prefix)/grub2 ]; then
  set prefix=($prefix)/grub2
  configfile $prefix/grub.cfg
else
  set prefix=($prefix)/boot/grub2
  configfile $prefix/grub.cfg
fi
boot
`;
    const uefi: Tree = {
      ...{ number: 2, type: "vfat", gptType: esp, uuid: "AB12-CD34" },
      files: { "/EFI/fedora/grub.cfg": stub },
    };
    expect(booted(tree, rootTree)).toEqual(booted(uefi, tree, rootTree));
    expect(booted(tree, rootTree)).toEqual({
      title: "Fedora CoreOS 39 (ostree:0)",
      cmdline: `BOOT_IMAGE=(hd0,gpt3)/ostree/vmlinuz rw ${first}ostree=/ostree/boot.1/x/0 ignition.platform.id=qemu root=UUID=${root}`,
      ...{ notes: [], files: ["K", "I"] },
    });
  });
});
