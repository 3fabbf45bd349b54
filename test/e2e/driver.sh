# Sourced by the script that runs chv (see guest.ts), in the run's folder. What a test's own part may
# use: $chv is the process; stdout, stderr and events are its files. To wait, nothing is started: on
# the lab's one emulated processor a program costs 70 to 250 ms, and a guest beside it most of its time.

exec {never}<> <(:) # nothing ever comes from there
quick=              # before a program's name: the lab's static busybox starts in a third of the time
[ ! -x /run/lab/busybox ] || quick=/run/lab/busybox

# pause SECONDS, fractions too.
pause() { read -rt "$1" -u "$never" || true; }

# limit SECONDS [STATUS]: a run that takes longer ends with that status (1 if not given), and all that it
# started with it; it leaves its files all the same. A second limit takes the first one's place.
tries_max=1200
limit() {
  [ -z "${limit:-}" ] || kill "$limit" 2>/dev/null
  tries_max=$(($1 * 5))
  trap "exit ${2:-1}" TERM
  { pause "$1" && echo "driver: not done within $1 s" >&2 && trap '' TERM && kill -TERM -- -$$; } &
  limit=$!
}

# contains FILE TEXT [TIMES]: whether that many lines of the file contain the text.
contains() {
  local line lines=() count=0
  { mapfile -t lines <"$1"; } 2>/dev/null || return
  for line in "${lines[@]}"; do
    [[ $line != *"$2"* ]] || count=$((count + 1))
  done
  [ "$count" -ge "${3:-1}" ]
}

# await_text FILE TEXT [TIMES]: until that many lines of the file contain the text; fails when chv has
# ended without them, or the run's time is over.
await_text() {
  local tries ended=
  for ((tries = 0; tries < tries_max; tries++)); do
    [ -z "${chv:-}" ] || kill -0 "$chv" 2>/dev/null || ended=1
    ! contains "$@" || return 0
    [ -z "$ended" ] || break
    pause 0.2
  done
  echo "driver: no '$2' in $1" >&2
  return 1
}

# await_code CODE: until the guest has written that code (decimal) to the debug port.
await_code() { await_text events "\"code\":$1,"; }

# resident: chv's resident memory, in KiB.
resident() {
  local key value rest
  while read -r key value rest; do
    [ "$key" != VmRSS: ] || echo "$value"
  done <"/proc/$chv/status"
}

# api METHOD OPERATION: a request to the API on api.sock; fails unless the answer is a success.
api() {
  local answer
  answer=$(printf '%s /api/v1/%s HTTP/1.1\r\nHost: chv\r\nConnection: close\r\n\r\n' "$1" "$2" |
    socat -t 100 -T 100 - UNIX-CONNECT:api.sock)
  [[ $answer == "HTTP/1.1 2"* ]] || { echo "driver: $2: ${answer:-no answer}" >&2 && return 1; }
}

# pauses TIMES: stops the machine and lets it run again.
pauses() {
  local i
  for ((i = 0; i < $1; i++)); do
    api PUT vm.pause && pause 0.3 && api PUT vm.resume && pause 0.3 || return
  done
}

# counts: chv's descriptors, threads and mappings.
counts() {
  local fds=(/proc/"$chv"/fd/*) threads=(/proc/"$chv"/task/*) maps
  mapfile -t maps <"/proc/$chv/maps"
  echo "${#fds[@]} ${#threads[@]} ${#maps[@]}"
}

# copy_program FILE COPY: on the lab's own memory it starts quicker than over virtiofs.
copy_program() {
  rm -f /tmp/chv-e2e-*
  cp "$1" "$2.$$" && mv "$2.$$" "$2"
}

# keep_files FOLDER: copies what the run has left here.
keep_files() {
  local file files=()
  for file in *; do
    [ ! -f "$file" ] || files+=("$file")
  done
  $quick cp -- "${files[@]}" "$1"
}

# talk ADDRESS [NAME]: a client of the serial port at a socat address, which sees what the guest has
# said so far and types into its shell; what it was shown is left in the file NAME.
talk() {
  local shown=${2:-client} chv=
  : >"$shown"
  { echo "echo typed by $shown \$((6*7))"; await_text "$shown" "typed by $shown 42"; } |
    socat -T 100 -t 0.2 - "$1" >"$shown" && contains "$shown" "typed by $shown 42"
}
