# Sourced by dev: guest kernels from Debian's packages, kept in .cache/kernels/NAME/ as
# vmlinuz, vmlinux (the ELF inside it), config, modules/RELEASE/… (decompressed) and origin.

kernel_pattern() { # the packages a kernel may come from, as a regular expression
  case $1 in
  6.12-cloud) echo '^linux-image-6\.12\.[0-9a-z.+~-]*-cloud-amd64(-unsigned)?$' ;;
  6.1-cloud) echo '^linux-image-6\.1\.[0-9a-z.+~-]*-cloud-amd64(-unsigned)?$' ;;
  6.12-generic) echo '^linux-image-6\.12\.[0-9.]+(\+deb[0-9]+)?-amd64(-unsigned)?$' ;;
  *) die "unknown kernel '$1'; there are 6.12-cloud, 6.1-cloud and 6.12-generic" ;;
  esac
}

# The newest package that matches; the signed one where both are there.
kernel_package() {
  local names base
  names=$(apt-cache search --names-only "$1" | awk '{ print $1 }' | grep -E "$1" || true)
  base=$(sed 's/-unsigned$//' <<<"$names" | sort -Vu | tail -n 1)
  if [ -z "$base" ] || grep -qxF -e "$base" <<<"$names"; then echo "$base"; else echo "$base-unsigned"; fi
}

# kernel NAME: nothing if it is there; else download, check and unpack it.
kernel() {
  kernel_pattern "$1" >/dev/null
  [ -f "$cache/kernels/$1/origin" ] || with_lock "kernel-$1" fetch_kernel "$1"
}

fetch_kernel() {
  local name=$1 pattern package version sum work
  [ ! -f "$cache/kernels/$name/origin" ] || return 0
  need xz:xz-utils zstd:zstd lz4:lz4 depmod:kmod
  pattern=$(kernel_pattern "$name")
  package_lists
  package=$(kernel_package "$pattern")
  [ -n "$package" ] || { package_lists fresh && package=$(kernel_package "$pattern"); }
  [ -n "$package" ] || die "no package matches $pattern; this machine's apt sources do not have that kernel"
  version=$(apt-cache show --no-all-versions "$package" | awk '$1 == "Version:" { print $2; exit }')
  sum=$(apt-cache show --no-all-versions "$package" | awk '$1 == "SHA256:" { print $2; exit }')
  say "fetching $package $version into .cache/kernels/$name"
  mkdir -p "$cache/kernels"
  work=$(mktemp -d "$cache/kernels/$name.XXXXXX")
  unpack_kernel "$package" "$sum" "$work" "$name" || { rm -rf "$work" && die "kernel $name: failed"; }
  echo "$package $version $sum" >"$work/kernel/origin"
  rm -rf "${cache:?}/kernels/$name"
  mv "$work/kernel" "$cache/kernels/$name"
  rm -rf "$work"
}

unpack_kernel() { # PACKAGE SHA256 FOLDER NAME; every step's failure is the function's
  local package=$1 sum=$2 work=$3 deb release modules out=$3/kernel
  (cd "$work" && apt-get download -q "$package" >apt.log 2>&1) || { cat "$work/apt.log" >&2 && return 1; }
  deb=$(echo "$work"/*.deb)
  echo "$sum  $deb" | sha256sum --check --status || { say "$package is not what the package lists say" && return 1; }
  mkdir -p "$out" "$work/root" || return 1
  if [ "$4" = 6.12-generic ]; then # for guests without ACPI: no modules wanted
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/root" --wildcards './boot/*' || return 1
  else
    dpkg-deb -x "$deb" "$work/root" || return 1
  fi
  mv "$work"/root/boot/vmlinuz-* "$out/vmlinuz" && mv "$work"/root/boot/config-* "$out/config" || return 1
  modules=$(find "$work/root" -type d -path '*/lib/modules' | head -n 1)
  if [ -n "$modules" ]; then
    release=$(ls "$modules")
    find "$modules" -name '*.ko.xz' -exec xz -d {} + || return 1
    PATH=$PATH:/usr/sbin:/sbin depmod -b "$(dirname "$(dirname "$modules")")" "$release" || return 1
    mv "$modules" "$out/modules" || return 1
  fi
  bun "$root/test/lab/vmlinux.ts" "$out/vmlinuz" "$out/vmlinux"
}
