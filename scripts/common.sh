# Sourced by dev: what every command needs. Wants $root and $cache.

say() { echo "dev: $*" >&2; }
die() { say "$*" && exit 1; }

# need TOOL:PACKAGE…: installs the Debian packages of those tools (commands, or absolute paths) that are missing.
need() {
  local pair missing=()
  for pair in "$@"; do
    case $pair in
    /*) [ -e "${pair%%:*}" ] || missing+=("${pair#*:}") ;;
    *) PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}") ;;
    esac
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "missing here: ${missing[*]} (Debian's package names); this machine has no apt-get, install them yourself"
  [ "$(id -u)" = 0 ] || die "missing here: ${missing[*]}; as root: apt-get install --no-install-recommends ${missing[*]}"
  say "installing from Debian: ${missing[*]}"
  mkdir -p "$cache"
  package_lists
  apt_install "${missing[@]}" || { package_lists fresh && apt_install "${missing[@]}"; } ||
    die "apt-get could not install ${missing[*]}"
}

apt_install() { # its hundreds of lines are shown only if it fails
  local log=$cache/apt.log
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends "$@" \
    </dev/null >"$log" 2>&1 || { cat "$log" >&2 && return 1; }
}

# The package lists, if there are none yet (as in a bare root) or if fresh ones are asked for.
package_lists() {
  [ "${1:-}" != fresh ] && compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null && return 0
  [ "$(id -u)" = 0 ] || return 0
  say "fetching the package lists"
  apt-get update -qq </dev/null >&2
}

# The host's apt sources of its own release: no third party's.
debian_sources() {
  local release=$1 file
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    [ -f "$file" ] && grep -qE "(^|[[:space:]])$release([[:space:]/-]|\$)" "$file" && echo "$file"
  done
  return 0
}

# with_lock NAME COMMAND…: two ./dev at once do not do the same work twice.
with_lock() {
  local name=$1 lock
  shift
  mkdir -p "$cache"
  exec {lock}>"$cache/$name.lock"
  flock "$lock"
  "$@" {lock}>&-
  exec {lock}>&-
}

# Bun, of the version that package.json names, from npm: npm checks what it fetches, and so does
# the sha512 of scripts/bun.sum.
fetch_bun() {
  local version=$1 work sum
  [ "$("$cache/bun/bun" --version 2>/dev/null)" != "$version" ] || return 0
  [ "$(uname -m)" = x86_64 ] || die "chv is for x86-64; this machine is $(uname -m)"
  sum=$(awk -v version="$version" '$1 == version { print $2 }' "$root/scripts/bun.sum")
  [ -n "$sum" ] || die "scripts/bun.sum has no sum for Bun $version, which package.json asks for"
  need npm:npm
  say "fetching Bun $version from npm into .cache/bun"
  work=$(mktemp -d "$cache/bun.XXXXXX")
  (cd "$work" && npm pack --silent "@oven/bun-linux-x64@$version" >/dev/null </dev/null) ||
    { rm -rf "$work" && die "npm could not fetch @oven/bun-linux-x64@$version"; }
  echo "$sum  $(echo "$work"/*.tgz)" | sha512sum --check --status ||
    { rm -rf "$work" && die "Bun $version from npm is not the one of scripts/bun.sum"; }
  tar -xzf "$work"/*.tgz -C "$work" package/bin/bun
  mkdir -p "$cache/bun"
  mv -f "$work/package/bin/bun" "$cache/bun/bun"
  rm -rf "$work"
}

# The packages of bun.lock, installed again only when package.json or bun.lock changed.
fetch_modules() {
  local sum
  sum=$(cat "$root/package.json" "$root/bun.lock" | sha256sum)
  [ -d "$root/node_modules" ] && [ "$(cat "$cache/modules.sum" 2>/dev/null)" = "$sum" ] && return 0
  say "installing the packages of bun.lock"
  (cd "$root" && bun install --frozen-lockfile >&2 </dev/null) || die "bun install failed"
  echo "$sum" >"$cache/modules.sum"
}

# Puts the project's Bun first on PATH, and node_modules in place.
tooling() {
  local version
  version=$(sed -n 's/^ *"bun": "\([0-9.]*\)".*/\1/p' "$root/package.json")
  [ -n "$version" ] || die "package.json: no engines.bun"
  [ "$("$cache/bun/bun" --version 2>/dev/null)" = "$version" ] || with_lock bun fetch_bun "$version"
  export PATH="$cache/bun:$PATH"
  fetch_modules_once
}

fetch_modules_once() { with_lock modules fetch_modules; }

# build [force]: dist/chv, if a source is newer (a removed file makes its folder newer).
build() {
  [ "${1:-}" = force ] || stale || return 0
  with_lock build build_now "${1:-}"
}

stale() {
  [ ! -x "$root/dist/chv" ] || [ -n "$(cd "$root" && find src build.ts build-preludes.ts package.json bun.lock -newer dist/chv -print -quit)" ]
}

build_now() {
  [ "$1" = force ] || stale || return 0 # another ./dev built it while this one waited
  say "building dist/chv"
  bun "$root/build.ts" >&2 </dev/null || die "the build failed"
}
