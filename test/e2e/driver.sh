# Sourced by the script that runs chv (see guest.ts), in the run's folder. What a test's own part may
# use: $chv is the process; stdout, stderr and events are its files.

# await_text FILE TEXT [TIMES]: until that many lines of the file contain the text; fails when they
# do not within some four minutes, or when chv has ended without them.
await_text() {
  local tries alive
  for ((tries = 0; tries < 1200; tries++)); do
    alive=$(jobs -rp)
    [ "$(grep -csF -e "$2" "$1")" -lt "${3:-1}" ] 2>/dev/null || [ ! -e "$1" ] || return 0
    [ -n "$alive" ] || [ -z "${chv:-}" ] || break
    sleep 0.2
  done
  echo "driver: no '$2' in $1" >&2
  return 1
}

# await_code CODE: until the guest has written that code (decimal) to the debug port.
await_code() { await_text events "\"code\":$1,"; }

# The pty that chv says it has opened.
pty_path() { await_text stderr '--serial pty: ' && sed -n 's/.*--serial pty: //p' stderr; }

# The program, on the lab's own memory: it starts quicker there than over virtiofs.
local_copy() {
  local copy
  copy=/tmp/chv-e2e-$(stat -c %i-%Y-%s "$1")
  if [ ! -x "$copy" ]; then
    rm -f /tmp/chv-e2e-*
    cp "$1" "$copy.$$" && mv "$copy.$$" "$copy"
  fi
  echo "$copy"
}

# talk ADDRESS [NAME]: a client of the serial port at a socat address, which sees what the guest has
# said so far and types into its shell; what it was shown is left in the file NAME.
talk() {
  local shown=${2:-client} chv=
  : >"$shown"
  { echo "echo typed by $shown \$((6*7))"; await_text "$shown" "typed by $shown 42"; } |
    timeout 100 socat -t 0.2 - "$1" >"$shown" && grep -q "typed by $shown 42" "$shown"
}
