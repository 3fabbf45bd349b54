#!/bin/bash
# Prints what the grub-mkconfig in a root folder generates for a disk that is yet to be made. Root alone may do that.
#   PROBE_…=… mkconfig.sh ROOT [BOOT]    PROBE_…: see grub-probe.sh; BOOT: a folder that is a partition of its own
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# Each lies on a device of its own, as paths in the configuration begin where that does; the folders stay as they are.
# shellcheck disable=SC2016 # the inner shell's own
exec unshare -m bash -euo pipefail -c '
  work=$(mktemp -d)
  mount -t tmpfs none "$work"
  mkdir "$work"/{upper,work,root}
  root=$work/root
  mount -t overlay none -o "lowerdir=$1,upperdir=$work/upper,workdir=$work/work" "$root"
  if [ -n "$2" ]; then
    mount -t tmpfs none "$root/boot"
    find "$2" -maxdepth 1 -type f -exec cp -t "$root/boot" {} +
  fi
  mkdir -p "$root/boot/grub"
  rm "$root/usr/sbin/grub-probe"
  cp "$3" "$root/usr/sbin/grub-probe"
  mount --bind /dev "$root/dev"
  mount -t proc none "$root/proc"
  chroot "$root" /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin grub-mkconfig
  umount -R "$work"
  rmdir "$work"
' bash "$1" "${2:-}" "$here/grub-probe.sh"
