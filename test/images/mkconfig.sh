#!/bin/bash
# Prints what the grub-mkconfig in a root folder generates for a disk that is yet to be made. Root alone may do that.
#   PROBE_…=… mkconfig.sh ROOT [BOOT]    PROBE_…: see grub-probe.sh; BOOT: a folder that is a partition of its own
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2016 # the inner shell's own
exec unshare -m bash -euo pipefail -c '
  root=$1 boot=$2 probe=$3
  mount --bind "$root" "$root"
  mount -t tmpfs none "$root/tmp"
  cp "$probe" "$root/tmp/grub-probe"
  mount --bind "$root/tmp/grub-probe" "$root/usr/sbin/grub-probe"
  mount --bind /dev "$root/dev"
  mount -t proc none "$root/proc"
  if [ -n "$boot" ]; then # by another device number paths are told from it on
    mount -t tmpfs none "$root/boot"
    (cd "$boot" && find . -maxdepth 1 -type f -size +0 -exec cp --sparse=always -t "$root/boot" {} +)
    mkdir "$root/boot/grub"
  fi
  chroot "$root" /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin grub-mkconfig
' bash "$1" "${2:-}" "$here/grub-probe.sh"
