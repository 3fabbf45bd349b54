// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are GRUB's variables
/** grub.cfg as distributions other than Ubuntu have it: each boots its default entry, and there is nothing to be told of. */
import { expect, test } from "bun:test";
import { bootSetupOf } from "../../../src/firmware/disk/boot-disk.ts";
import { disk, esp, type Tree } from "./trees.ts";
import { grubenv } from "./ubuntu.ts";

const root = "8a7c1f0e-3a0d-4a63-9a5e-1f2b3c4d5e6f";
const text = (file: { read(): Uint8Array }) => new TextDecoder().decode(file.read());

function booted(...trees: readonly Tree[]) {
  const { title, cmdline, notes, kernel, initrds } = bootSetupOf(disk(...trees));
  return { title, cmdline, notes: [...notes], files: [kernel, ...initrds].map(text) };
}

/** What 00_header of grub-mkconfig writes. */
const header = (preset: string) => `
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "\${next_entry}" ] ; then
   set default="\${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="${preset}"
fi

if [ x"\${feature_menuentry_id}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi

export menuentry_id_option

if [ "\${prev_saved_entry}" ]; then
  set saved_entry="\${prev_saved_entry}"
  save_env saved_entry
  set prev_saved_entry=
  save_env prev_saved_entry
  set boot_once=true
fi

function savedefault {
  if [ -z "\${boot_once}" ]; then
    saved_entry="\${chosen}"
    save_env saved_entry
  fi
}
function load_video {
  if [ x$feature_all_video_module = xy ]; then
    insmod all_video
  else
    insmod efi_gop
    insmod vbe
  fi
}

if [ x$feature_default_font_path = xy ] ; then
   font=unicode
else
insmod part_gpt
insmod ext2
if [ x$feature_platform_search_hint = xy ]; then
  search --no-floppy --fs-uuid --set=root  ${root}
else
  search --no-floppy --fs-uuid --set=root ${root}
fi
    font="/usr/share/grub/unicode.pf2"
fi

if loadfont $font ; then
  set gfxmode=auto
  load_video
  insmod gfxterm
  set locale_dir=$prefix/locale
  set lang=en_US
  insmod gettext
fi
terminal_output gfxterm
if [ "\${recordfail}" = 1 ] ; then
  set timeout=30
else
  if [ x$feature_timeout_style = xy ] ; then
    set timeout_style=menu
    set timeout=5
  # Fallback normal timeout code in case the timeout_style feature is
  # unavailable.
  else
    set timeout=5
  fi
fi
`;

/** What its 41_custom and 30_uefi-firmware write. */
const footer = `
if [ "$grub_platform" = "efi" ]; then
	fwsetup --is-supported
	if [ "$?" = 0 ]; then
		menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {
			fwsetup
		}
	fi
fi
if [ -f  \${config_directory}/custom.cfg ]; then
  source \${config_directory}/custom.cfg
elif [ -z "\${config_directory}" -a -f  $prefix/custom.cfg ]; then
  source $prefix/custom.cfg
fi
`;

test("Debian 12: the theme, a console on the serial port, a menu below", () => {
  const entry = (
    title: string,
    id: string,
    tab: string,
  ) => `${tab}menuentry '${title}' --class debian --class gnu-linux --class gnu --class os $menuentry_id_option '${id}' {
${tab}	load_video
${tab}	insmod gzio
${tab}	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
${tab}	insmod part_gpt
${tab}	insmod ext2
${tab}	if [ x$feature_platform_search_hint = xy ]; then
${tab}	  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt1 --hint-efi=hd0,gpt1 --hint-baremetal=ahci0,gpt1  ${root}
${tab}	else
${tab}	  search --no-floppy --fs-uuid --set=root ${root}
${tab}	fi
${tab}	echo	'Loading Linux 6.1.0-18-cloud-amd64 ...'
${tab}	linux	/boot/vmlinuz-6.1.0-18-cloud-amd64 root=PARTUUID=5c5c ro console=tty0 console=ttyS0,115200 earlyprintk=ttyS0,115200 consoleblank=0 
${tab}	echo	'Loading initial ramdisk ...'
${tab}	initrd	/boot/initrd.img-6.1.0-18-cloud-amd64
${tab}}
`;
  const config = `${header("0")}
serial --speed=115200
terminal_input console serial
terminal_output console serial
### BEGIN /etc/grub.d/05_debian_theme ###
insmod part_gpt
insmod ext2
insmod png
if background_image /usr/share/desktop-base/emerald-theme/grub/grub-4x3.png; then
  set color_normal=white/black
  set color_highlight=black/white
else
  set menu_color_normal=cyan/blue
  set menu_color_highlight=white/blue
fi
function gfxmode {
	set gfxpayload="\${1}"
}
set linux_gfx_mode=
export linux_gfx_mode
${entry("Debian GNU/Linux", `gnulinux-simple-${root}`, "")}submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-${root}' {
${entry("Debian GNU/Linux, with Linux 6.1.0-18-cloud-amd64", "gnulinux-6.1.0-18", "\t")}}
${footer}`;
  const stub = `search.fs_uuid ${root} root hd0,gpt1 
set prefix=($root)'/boot/grub'
configfile $prefix/grub.cfg
`;

  expect(
    booted(
      {
        ...{ number: 1, uuid: root, partUuid: "5c5c" },
        files: {
          "/boot/grub/grub.cfg": config,
          "/boot/grub/grubenv": grubenv({}),
          "/boot/vmlinuz-6.1.0-18-cloud-amd64": "K",
          "/boot/initrd.img-6.1.0-18-cloud-amd64": "I",
        },
      },
      {
        ...{ number: 15, type: "vfat", gptType: esp, uuid: "AB12-CD34" },
        files: { "/EFI/debian/grub.cfg": stub, "/EFI/BOOT/grub.cfg": stub },
      },
    ),
  ).toEqual({
    title: "Debian GNU/Linux",
    cmdline:
      "BOOT_IMAGE=/boot/vmlinuz-6.1.0-18-cloud-amd64 root=PARTUUID=5c5c ro console=tty0 " +
      "console=ttyS0,115200 earlyprintk=ttyS0,115200 consoleblank=0",
    ...{ notes: [], files: ["K", "I"] },
  });
});

test("Alpine: grub-mkconfig's own, with flavours for names", () => {
  const config = `${header("0")}
menuentry 'Alpine Linux v3.20, with Linux virt' --class alpine --class gnu-linux --class gnu --class os $menuentry_id_option 'gnulinux-virt-advanced-${root}' {
	load_video
	set gfxpayload=keep
	insmod gzio
	insmod ext2
	search --no-floppy --fs-uuid --set=root ${root}
	echo	'Loading Linux virt ...'
	linux	/boot/vmlinuz-virt root=UUID=${root} ro  modules=sd-mod,usb-storage,ext4 console=ttyS0,115200n8 rootfstype=ext4
	echo	'Loading initial ramdisk ...'
	initrd	/boot/initramfs-virt
}
${footer}`;

  expect(
    booted({
      ...{ number: 2, uuid: root },
      files: {
        "/boot/grub/grub.cfg": config,
        "/boot/grub/grubenv": grubenv({}),
        ...{ "/boot/vmlinuz-virt": "K", "/boot/initramfs-virt": "I" },
      },
    }),
  ).toMatchObject({
    title: "Alpine Linux v3.20, with Linux virt",
    cmdline: `BOOT_IMAGE=/boot/vmlinuz-virt root=UUID=${root} ro modules=sd-mod,usb-storage,ext4 console=ttyS0,115200n8 rootfstype=ext4`,
    ...{ notes: [], files: ["K", "I"] },
  });
});

test("openSUSE: variables for the commands, an environment block that may lie elsewhere, hidden entries", () => {
  const config = `set btrfs_relative_path="y"
export btrfs_relative_path
if [ -f \${config_directory}/grubenv ]; then
  load_env -f \${config_directory}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "\${env_block}" ] ; then
  set env_block="(\${root})\${env_block}"
  export env_block
  load_env -f "\${env_block}"
fi
if [ "\${next_entry}" ] ; then
   set default="\${next_entry}"
   set next_entry=
   save_env next_entry
   if [ "\${env_block}" ] ; then
     save_env -f "\${env_block}" next_entry
   fi
   set boot_once=true
else
   set default="\${saved_entry}"
fi
menuentry_id_option="--id"
export menuentry_id_option
loadfont ($root)/boot/grub2/themes/openSUSE/DejaVuSans12.pf2
insmod gfxmenu
set theme=($root)/boot/grub2/themes/openSUSE/theme.txt
export theme
if [ x\${boot_once} = xtrue ]; then
  set timeout=0
elif [ x$feature_timeout_style = xy ] ; then
  set timeout_style=menu
  set timeout=8
else
  set timeout=8
fi
if [ -n "$extra_cmdline" ]; then
  menuentry "Bootable snapshot #$snapshot_num" {
    echo
  }
fi
set linux=linux
set initrd=initrd
if [ "\${grub_cpu}" = "x86_64" -o "\${grub_cpu}" = "i386" ]; then
    if [ "\${grub_platform}" = "efi" ]; then
        set linux=linuxefi
        set initrd=initrdefi
    fi
fi
export linux initrd
menuentry 'openSUSE Leap 15.5'  --class opensuse --class gnu-linux --class gnu --class os $menuentry_id_option 'gnulinux-simple-${root}' {
	set gfxpayload=keep
	insmod part_gpt
	search --no-floppy --fs-uuid --set=root --hint='hd0,gpt3'  ${root}
	echo	'Loading Linux 5.14.21-default ...'
	$linux	/boot/vmlinuz-5.14.21-default root=UUID=${root}  \${extra_cmdline} net.ifnames=0 console=ttyS0,115200
	echo	'Loading initial ramdisk ...'
	$initrd	/boot/initrd-5.14.21-default
}
hiddenentry 'Text mode' --hotkey 't' {
  set textmode=true
  terminal_output console
}
if [ -f "/.snapshots/grub-snapshot.cfg" ]; then
  source "/.snapshots/grub-snapshot.cfg"
fi
`;
  const stub = `set btrfs_relative_path="yes"
search --fs-uuid --set=root ${root}
set prefix=(\${root})/boot/grub2
source "\${prefix}/grub.cfg"
`;

  expect(
    booted(
      {
        ...{ number: 3, uuid: root },
        files: {
          "/boot/grub2/grub.cfg": config,
          "/boot/grub2/grubenv": grubenv({ saved_entry: `gnulinux-simple-${root}` }),
          ...{ "/boot/vmlinuz-5.14.21-default": "K", "/boot/initrd-5.14.21-default": "I" },
        },
      },
      {
        ...{ number: 2, type: "vfat", gptType: esp, uuid: "AB12-CD34" },
        files: { "/EFI/opensuse/grub.cfg": stub },
      },
    ),
  ).toEqual({
    title: "openSUSE Leap 15.5",
    cmdline: `BOOT_IMAGE=/boot/vmlinuz-5.14.21-default root=UUID=${root} net.ifnames=0 console=ttyS0,115200`,
    ...{ notes: [], files: ["K", "I"] },
  });
});
