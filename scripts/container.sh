# Sourced by dev: `./dev container COMMAND` runs COMMAND in a fresh clone of HEAD in a bare Debian
# root, so that a set-up step that only this machine has shows. Mounts and processes live in
# namespaces of their own and end with it; the folder is removed.

# The bare root as a tar file, made once.
container_base() {
  local release=$1 tar=$2 file
  [ ! -f "$tar" ] || return 0
  need mmdebstrap:mmdebstrap
  package_lists
  local arguments=(--quiet --variant=apt --mode=root "--components=main")
  for file in $(grep -ls '^Acquire' /etc/apt/apt.conf.d/* || true); do arguments+=("--aptopt=$file"); done
  local sources
  mapfile -t sources < <(debian_sources "$release")
  [ ${#sources[@]} -gt 0 ] || die "container: no apt source of $release in /etc/apt"
  say "making a bare $release root in ${tar#"$root/"} (about a minute)"
  mmdebstrap "${arguments[@]}" "$release" "$tar.new.tar" "${sources[@]}" </dev/null >&2 || die "container: mmdebstrap failed"
  mv "$tar.new.tar" "$tar"
}

# What reaches the host's registries: name server, certificates, npm's configuration.
container_network() {
  local inside=$1 file
  for file in /etc/resolv.conf /etc/hosts; do [ ! -f "$file" ] || cp -L "$file" "$inside$file"; done
  [ ! -f /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt "$inside/usr/local/share/host-ca.crt"
  for file in /usr/etc/npmrc /etc/npmrc "${HOME:-/root}/.npmrc"; do
    [ ! -f "$file" ] || grep -vE '^(cafile|nodedir|prefix|globalconfig|userconfig) *=' "$file" >>"$inside/root/.npmrc" || true
  done
}

container() {
  [ $# -gt 0 ] || die "container: a COMMAND, please"
  [ "$(id -u)" = 0 ] || die "container: needs root, for chroot and mounts"
  need git:git
  local release tar inside child= status=0 word variables=()
  release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  tar=$cache/container-$release.tar
  with_lock container container_base "$release" "$tar"
  inside=$(mktemp -d /var/tmp/chv-container.XXXXXX) # outside the project: tools that walk it stay out
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf --one-file-system '$inside'" EXIT
  # unshare ignores TERM; its death ends every process of the namespace.
  trap 'kill -KILL $child 2>/dev/null; wait; exit 130' INT
  trap 'kill -KILL $child 2>/dev/null; wait; exit 143' TERM
  tar -xf "$tar" -C "$inside" --numeric-owner
  container_network "$inside"
  git -c safe.directory='*' clone -q --no-hardlinks "$root" "$inside/root/chv" </dev/null >&2
  [ -z "$(git -C "$root" status --porcelain --untracked-files=no)" ] || say "container: a clone of HEAD, without what is not committed"
  for word in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY TERM CI; do
    [ -z "${!word:-}" ] || variables+=("$word=${!word}")
  done
  if [ -f "$inside/usr/local/share/host-ca.crt" ]; then
    for word in NODE_EXTRA_CA_CERTS SSL_CERT_FILE npm_config_cafile; do variables+=("$word=/usr/local/share/host-ca.crt"); done
  fi
  unshare --mount --pid --fork --kill-child --propagation private \
    bash -c '
      inside=$1 && shift
      mount -t proc proc "$inside/proc" && mount --rbind /dev "$inside/dev" && mount --rbind /sys "$inside/sys" || exit
      mkdir -p "$inside/run/lock" /run/lock && mount --bind /run/lock "$inside/run/lock" || exit
      exec chroot "$inside" "$@"
    ' container "$inside" /usr/bin/env -i "${variables[@]}" HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    bash -c "cd /root/chv && $*" <&0 &
  child=$!
  wait "$child" || status=$?
  exit $status
}
