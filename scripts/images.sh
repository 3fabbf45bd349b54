# Sourced by dev: disk images as clouds hand them out, made of Debian's packages and kept in
# .cache/images/NAME/: disk.qcow2 (compressed), and what is in its /boot: vmlinuz and initrd.img.
# The layout is Ubuntu's: a BIOS boot partition, an ESP, and an ext4 root named cloudimg-rootfs.

image_packages=linux-image-cloud-amd64,systemd-sysv,systemd-resolved,udev,dbus,cloud-init,cloud-initramfs-growroot,openssh-server,netplan.io,iproute2,iputils-ping,grub-pc-bin,grub2-common,e2fsprogs,fdisk

# image debian: nothing if it is there; else made, in about four minutes.
image() {
  [ "$1" = debian ] || die "unknown image '$1'; there is debian"
  [ -f "$cache/images/$1/origin" ] || with_lock "image-$1" make_image "$1"
}

make_image() {
  local name=$1 work release
  [ ! -f "$cache/images/$name/origin" ] || return 0
  [ "$(id -u)" = 0 ] || die "image $name: needs root, for mmdebstrap"
  need mmdebstrap:mmdebstrap sgdisk:gdisk mcopy:mtools mkfs.vfat:dosfstools mke2fs:e2fsprogs qemu-img:qemu-utils
  release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  mkdir -p "$cache/images"
  work=$(mktemp -d "$cache/images/$name.XXXXXX")
  say "making a $release cloud image in .cache/images/$name (about four minutes)"
  { image_root "$release" "$work" && image_disk "$work"; } || { rm -rf --one-file-system "$work" && die "image $name: failed"; }
  rm -rf --one-file-system "$work/root" "$work/disk.raw"
  (cd "$work" && sha256sum disk.qcow2 vmlinuz initrd.img) >"$work/origin"
  chmod 755 "$work"
  rm -rf --one-file-system "${cache:?}/images/$name"
  mv "$work" "$cache/images/$name"
}

# The root folder, and its kernel and initramfs beside it.
image_root() {
  local release=$1 work=$2 file arguments sources
  package_lists
  arguments=(--quiet --variant=apt --mode=root --components=main "--include=$image_packages")
  arguments+=('--dpkgopt=path-exclude=/usr/share/doc/*' '--dpkgopt=path-exclude=/usr/share/man/*' '--dpkgopt=path-exclude=/usr/share/locale/*')
  for file in $(grep -ls '^Acquire' /etc/apt/apt.conf.d/* || true); do arguments+=("--aptopt=$file"); done
  mapfile -t sources < <(debian_sources "$release")
  [ ${#sources[@]} -gt 0 ] || { say "no apt source of $release in /etc/apt" && return 1; }
  mmdebstrap "${arguments[@]}" "$release" "$work/root" "${sources[@]}" </dev/null >"$work/log" 2>&1 || { cat "$work/log" >&2 && return 1; }
  rm "$work/log"
  rm -rf "$work"/root/var/cache/apt/* "$work"/root/var/lib/apt/lists/* "$work"/root/etc/apt/sources.list*
  echo localhost >"$work/root/etc/hostname"
  : >"$work/root/etc/machine-id"
  rm -f "$work"/root/etc/ssh/ssh_host_*
  echo 'LABEL=cloudimg-rootfs / ext4 discard,errors=remount-ro 0 1' >"$work/root/etc/fstab"
  image_grub "$work/root" || return 1
  cp "$work"/root/boot/vmlinuz-* "$work/vmlinuz" && cp "$work"/root/boot/initrd.img-* "$work/initrd.img"
}

# What grub-mkconfig writes for such a disk (it needs the disk itself, which is not mounted here).
image_grub() {
  local root=$1 version
  version=$(basename "$root"/boot/vmlinuz-*) && version=${version#vmlinuz-}
  mkdir -p "$root/boot/grub" || return 1
  cat >"$root/boot/grub/grub.cfg" <<GRUB
set default="0"
set timeout=0
search --no-floppy --label cloudimg-rootfs --set root
menuentry 'Debian GNU/Linux' --class debian --class gnu-linux {
  insmod gzio
  insmod part_gpt
  insmod ext2
  search --no-floppy --label cloudimg-rootfs --set root
  linux /boot/vmlinuz-$version root=LABEL=cloudimg-rootfs ro console=tty1 console=ttyS0
  initrd /boot/initrd.img-$version
}
GRUB
}

image_disk() {
  local work=$1 raw=$1/disk.raw sector=512 esp=10240 rootfs=227328 PATH=$PATH:/usr/sbin:/sbin
  truncate -s 2252M "$raw" || return 1
  sgdisk -n 14:2048:10239 -t 14:ef02 -n 15:$esp:$((rootfs - 1)) -t 15:ef00 -n 1:$rootfs:0 -t 1:8300 "$raw" >/dev/null || return 1
  mke2fs -q -t ext4 -F -d "$work/root" -L cloudimg-rootfs -E offset=$((rootfs * sector)) "$raw" "$(((2252 * 2048 - rootfs - 2048) / 2))k" || return 1
  truncate -s $(((rootfs - esp) * sector)) "$work/esp" || return 1
  mkfs.vfat -n UEFI "$work/esp" >/dev/null || return 1
  dd if="$work/esp" of="$raw" bs=$sector seek=$esp conv=notrunc,sparse status=none || return 1
  rm "$work/esp"
  qemu-img convert -c -O qcow2 "$raw" "$work/disk.qcow2"
}
