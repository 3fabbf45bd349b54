#!/bin/sh
# In the place of grub-probe, which looks at real devices: tells of a disk that is yet to be made. PROBE_ROOT_UUID and
# PROBE_ROOT_PARTUUID are of the root, on the first partition of a GPT; PROBE_BOOT_UUID of a /boot on the sixteenth.
target='' device='' previous='' path=''
for word; do
  case $previous in
  -t | --target) target=$word ;;
  -d | --device) device=$word ;;
  *)
    case $word in
    --target=*) target=${word#--target=} ;;
    -*) ;;
    *) path=$word ;;
    esac
    ;;
  esac
  previous=$word
done
number=1 uuid=$PROBE_ROOT_UUID
case ${device:-$path} in
/dev/vda16 | /boot | /boot/*) [ -z "${PROBE_BOOT_UUID:-}" ] || { number=16 uuid=$PROBE_BOOT_UUID; } ;;
esac
# with -d all further words are devices
case $target in
device) echo /dev/vda$number ;;
fs_uuid) echo "$uuid" ;;
fs) echo ext2 ;;
partmap) echo gpt ;;
partuuid) echo "$PROBE_ROOT_PARTUUID" ;;
compatibility_hint) echo hd0,gpt$number ;;
hints_string) echo --hint-bios=hd0,gpt$number --hint-efi=hd0,gpt$number --hint-baremetal=ahci0,gpt$number ;;
esac
