#!/bin/bash
# Runs Debian's grub-mkconfig for a disk with two kernels, in a folder of its own, and prints what it generates. Only
# grub-probe, which would look at real devices, is replaced: it tells of a root on the first partition of a GPT.
#   grub-mkconfig.sh FOLDER    FOLDER: for the packages, kept from run to run
set -euo pipefail
folder=$1
root=$folder/root
probe=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../../images/grub-probe.sh
export PROBE_ROOT_UUID=8a7c1f0e-3a0d-4a63-9a5e-1f2b3c4d5e6f PROBE_ROOT_PARTUUID=11111111-2222-4333-8444-555555555555
if [ ! -d "$root" ]; then
  mkdir -p "$folder/packages" "$root.new"
  chmod 755 "$folder" "$folder/packages"
  (cd "$folder/packages" && apt-get download grub-common grub2-common grub-pc-bin) >&2
  for package in "$folder"/packages/*.deb; do dpkg-deb -x "$package" "$root.new"; done
  mkdir -p "$root.new/boot/grub" "$root.new/etc/default"
  for version in 6.1.0-31-cloud-amd64 6.1.0-28-cloud-amd64; do
    for file in vmlinuz initrd.img config; do echo "$file" >"$root.new/boot/$file-$version"; done
  done
  cat >"$root.new/etc/default/grub" <<'DEFAULTS'
GRUB_DEFAULT=0
GRUB_TIMEOUT=5
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"
DEFAULTS
  mv "$root.new" "$root"
fi
[ -s "$folder/grub.cfg" ] && exec cat "$folder/grub.cfg"
cp "$probe" "$root/usr/sbin/grub-probe"
unshare -m bash -euo pipefail -c '
  work=$(mktemp -d)
  trap "rmdir $work" EXIT
  mount -t tmpfs none "$work"
  mkdir -p "$work"/{upper,work,root/usr,root/dev,root/tmp,root/proc}
  cp -a "$1/etc" "$1/boot" "$work/root/"
  for link in bin sbin lib lib64; do ln -s usr/$link "$work/root/$link"; done
  mount -t overlay none -o "lowerdir=$1/usr:/usr,upperdir=$work/upper,workdir=$work/work" "$work/root/usr"
  mount --bind /dev "$work/root/dev"
  chroot "$work/root" /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin grub-mkconfig
  umount -R "$work"
' bash "$root" >"$folder/grub.cfg.new"
mv "$folder/grub.cfg.new" "$folder/grub.cfg"
exec cat "$folder/grub.cfg"
