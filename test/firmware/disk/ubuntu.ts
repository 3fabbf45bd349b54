// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are GRUB's variables
/** Configurations as Ubuntu's images have them: its functions, its two branches, and GRUB's menu with a menu in it. */

export interface UbuntuOptions {
  /** Newest first. */
  readonly kernels: readonly string[];
  /** Of the file system that /boot lies on. */
  readonly uuid: string;
  /** Where /boot lies there: "" on a partition of its own. */
  readonly boot: string;
  /** Of the root: the first try goes without an initramfs. */
  readonly partUuid?: string;
  readonly platformBlocks?: boolean;
}

const consoles = "console=tty1 console=ttyS0";

export function ubuntuConfig(options: UbuntuOptions): string {
  const { kernels, uuid } = options;
  const simple = entry("Ubuntu", `gnulinux-simple-${uuid}`, kernels[0]!, "", options);
  const more = kernels.flatMap((kernel) =>
    ["", " (recovery mode)"].map((mode) =>
      entry(
        `Ubuntu, with Linux ${kernel}${mode}`,
        `gnulinux-${kernel}-${mode === "" ? "advanced" : "recovery"}-${uuid}`,
        kernel,
        mode === "" ? "" : "recovery nomodeset dis_ucode_ldr ",
        options,
      ),
    ),
  );
  return `${head}${functions}${simple}submenu 'Advanced options for Ubuntu' $menuentry_id_option 'gnulinux-advanced-${uuid}' {
${more.join("")}}
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
}

const head = `# what comes first: the environment block, and what it says
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "\${initrdfail}" = 2 ]; then
   set initrdfail=
elif [ "\${initrdfail}" = 1 ]; then
   set next_entry="\${prev_entry}"
   set prev_entry=
   save_env prev_entry
   if [ "\${next_entry}" ]; then
      set initrdfail=2
   fi
fi
if [ "\${next_entry}" ] ; then
   set default="\${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="0"
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
fi
`;

const functions = `function savedefault {
  if [ -z "\${boot_once}" ]; then
    saved_entry="\${chosen}"
    save_env saved_entry
  fi
}
function initrdfail {
    if [ -n "\${have_grubenv}" ]; then if [ -n "\${partuuid}" ]; then
      if [ -z "\${initrdfail}" ]; then
        set initrdfail=1
        if [ -n "\${boot_once}" ]; then
          set prev_entry="\${default}"
          save_env prev_entry
        fi
      fi
      save_env initrdfail
    fi; fi
}
function recordfail {
  set recordfail=1
  if [ -n "\${have_grubenv}" ]; then if [ -z "\${boot_once}" ]; then save_env recordfail; fi; fi
}
function load_video {
  if [ x$feature_all_video_module = xy ]; then
    insmod all_video
  else
    insmod efi_gop
    insmod vbe
  fi
}
if loadfont unicode ; then
  set gfxmode=auto
  load_video
  insmod gfxterm
fi
terminal_output gfxterm
if [ "\${recordfail}" = 1 ] ; then
  set timeout=0
else
  if [ x$feature_timeout_style = xy ] ; then
    set timeout_style=hidden
    set timeout=0
  elif sleep --interruptible 0 ; then
    set timeout=0
  fi
fi
function gfxmode {
	set gfxpayload="\${1}"
	if [ "\${1}" = "keep" ]; then
		set vt_handoff=vt.handoff=7
	else
		set vt_handoff=
	fi
}
if [ "\${recordfail}" != 1 ]; then
  if [ -e \${prefix}/gfxblacklist.txt ]; then
    if [ \${grub_platform} != pc ]; then
      set linux_gfx_mode=keep
    elif hwmatch \${prefix}/gfxblacklist.txt 3; then
      if [ \${match} = 0 ]; then
        set linux_gfx_mode=keep
      else
        set linux_gfx_mode=text
      fi
    else
      set linux_gfx_mode=text
    fi
  else
    set linux_gfx_mode=keep
  fi
else
  set linux_gfx_mode=text
fi
export linux_gfx_mode
`;

function entry(
  title: string,
  id: string,
  kernel: string,
  mode: string,
  { uuid, boot, partUuid }: UbuntuOptions,
): string {
  const root = partUuid === undefined ? "LABEL=cloudimg-rootfs" : `PARTUUID=${partUuid}`;
  const linux = `linux	${boot}/vmlinuz-${kernel} root=${root} ro ${mode} ${consoles}`;
  const load = partUuid
    ? `	if [ "\${initrdfail}" = 1 ]; then
	  echo	'GRUB_FORCE_PARTUUID set, initrdless boot failed. Attempting with initrd.'
	  ${linux} $vt_handoff
	  initrd	${boot}/initrd.img-${kernel}
	else
	  echo	'GRUB_FORCE_PARTUUID set, attempting initrdless boot.'
	  ${linux} $vt_handoff panic=-1
	fi
	initrdfail
`
    : `	${linux} $vt_handoff
	initrd	${boot}/initrd.img-${kernel}
`;
  return `menuentry '${title}' --class ubuntu --class gnu-linux --class gnu --class os $menuentry_id_option '${id}' {
	recordfail
	load_video
	gfxmode $linux_gfx_mode
	insmod gzio
	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
	insmod part_gpt
	insmod ext2
	set root='hd0,gpt1'
	if [ x$feature_platform_search_hint = xy ]; then
	  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt1 --hint-efi=hd0,gpt1 --hint-baremetal=ahci0,gpt1  ${uuid}
	else
	  search --no-floppy --fs-uuid --set=root ${uuid}
	fi
${load}}
`;
}

/** GRUB on the ESP: finds /boot and goes on there. */
export const stub = (uuid: string, folder: string): string => `search.fs_uuid ${uuid} root
set prefix=($root)'${folder}'
configfile $prefix/grub.cfg
`;

/** An environment block: 1024 bytes. */
export const grubenv = (values: Readonly<Record<string, string>>): string =>
  `# GRUB Environment Block\n${Object.entries(values)
    .map(([name, value]) => `${name}=${value}\n`)
    .join("")}`.padEnd(1024, "#");
