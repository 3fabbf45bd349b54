# Sourced by dev: disk images as clouds hand them out, made of Debian's packages. .cache/images/tree/ has the system that
# is in all of them: root.tar.zst, and what is in its /boot: vmlinuz and initrd.img. .cache/images/LAYOUT.img are the
# images, qcow2 and compressed, with the partitions and file systems of Ubuntu's (test/images/layouts.ts).

image_layouts="18.04 19.10 22.04 24.04"
image_packages=linux-image-cloud-amd64,systemd-sysv,systemd-resolved,udev,dbus,cloud-init,cloud-initramfs-growroot,openssh-server,netplan.io,iproute2,iputils-ping,grub-pc-bin,grub2-common,e2fsprogs,fdisk

# image LAYOUT: nothing if it is there; else made, in half a minute, the tree first, in about three.
image() {
  case " $image_layouts " in *" ${1:-none} "*) ;; *) die "unknown image '${1:-}'; there are $image_layouts" ;; esac
  [ -f "$cache/images/tree/origin" ] || with_lock image-tree make_tree
  [ -f "$cache/images/$1.img" ] || with_lock "image-$1" make_image "$1"
}

make_tree() {
  local work release
  [ ! -f "$cache/images/tree/origin" ] || return 0
  [ "$(id -u)" = 0 ] || die "images: need root, for mmdebstrap"
  need mmdebstrap:mmdebstrap zstd:zstd
  release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  mkdir -p "$cache/images"
  work=$(mktemp -d "$cache/images/tree.XXXXXX")
  say "making a $release system for images in .cache/images/tree (about three minutes)"
  { image_root "$release" "$work" && pack_root "$work"; } || { rm -rf --one-file-system "$work" && die "images: failed"; }
  chmod 755 "$work"
  rm -rf --one-file-system "${cache:?}/images/tree"
  mv "$work" "$cache/images/tree"
}

pack_root() {
  tar -C "$1/root" --xattrs --numeric-owner --sort=name -cf - . | zstd -q -3 -T0 -o "$1/root.tar.zst" || return 1
  rm -rf --one-file-system "$1/root"
  (cd "$1" && sha256sum root.tar.zst vmlinuz initrd.img) >"$1/origin"
}

make_image() {
  local name=$1 work
  [ ! -f "$cache/images/$name.img" ] || return 0
  [ "$(id -u)" = 0 ] || die "image $name: needs root, for the owners of its files"
  need sgdisk:gdisk mcopy:mtools mkfs.vfat:dosfstools mke2fs:e2fsprogs qemu-img:qemu-utils zstd:zstd unshare:util-linux
  work=$(mktemp -d "$cache/images/$name.XXXXXX")
  say "making .cache/images/$name.img"
  { mkdir "$work/root" && zstd -qdc "$cache/images/tree/root.tar.zst" | tar -C "$work/root" --xattrs --xattrs-include='*' --numeric-owner -xpf - &&
    bun "$root/test/images/full.ts" "$name" "$work/root" "$work/disk" >&2 && mv "$work/disk" "$cache/images/$name.img"; } ||
    { rm -rf --one-file-system "$work" && die "image $name: failed"; }
  rm -rf --one-file-system "$work"
}

# What Debian's grub-mkconfig generates, for a unit test; it needs root, and a mount namespace.
grub_ready() {
  local folder=$cache/images/grub-mkconfig
  [ "$(id -u)" = 0 ] && [ ! -s "$folder/grub.cfg" ] || return 0
  package_lists
  say "fetching Debian's GRUB into .cache/images/grub-mkconfig"
  with_lock image-grub "$root/test/firmware/disk/grub-mkconfig.sh" "$folder" >/dev/null ||
    say "grub-mkconfig does not run here: its test is skipped"
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
  cp "$work"/root/boot/vmlinuz-* "$work/vmlinuz" && cp "$work"/root/boot/initrd.img-* "$work/initrd.img"
}
