#!/bin/bash
# Log bytes and processor time a request, of several recorders by turns: the medians of ROUNDS.
#
#   ROUNDS=5 recorder/test/cost.sh [CONNECTIONS…] -- NAME=LIBRARY[,VARIABLE=VALUE…] …      LIBRARY none: not recorded
#
# e.g. cost.sh 1 50 -- none=none counted=$PWD/build/lib/libftrec.so each=$PWD/build/lib/libftrec.so,FTREC_NO_ELIDE=1
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD="${BUILD:-$(realpath ../build)}"; ROUNDS="${ROUNDS:-5}"; MILLISECONDS="${MILLISECONDS:-2000}"; PORT="${PORT:-7412}"
connections=(); while [ $# -gt 0 ] && [ "$1" != -- ]; do connections+=("$1"); shift; done; shift
SHM="$(mktemp -d /dev/shm/recorder-XXXXXX)"; LOG="$SHM/log"; DIR="$(mktemp -d)"; SERVER=""
trap '[ -n "$SERVER" ] && kill "$SERVER" 2>/dev/null; rm -rf "$SHM" "$DIR"' EXIT
processor_ns() { cat "/proc/$1/task/"*/schedstat | awk '{ns += $1} END {printf "%.0f", ns}'; }
once() { # name library environment connections
  local before after operations bytes=0
  "$BUILD/bin/ftlog" create "$LOG" 64 1024
  if [ "$2" = none ]; then memcached -t 4 -p "$PORT" -u root -l 127.0.0.1 & else
    env ${3//,/ } FTREC_LOG="$LOG" LD_PRELOAD="$2" memcached -t 4 -p "$PORT" -u root -l 127.0.0.1 & fi
  SERVER=$!
  sleep 0.5; before="$(processor_ns "$SERVER")"
  "$BUILD/test/recorder-load" memcached "$PORT" "$4" "$MILLISECONDS" 7 >"$DIR/load" || return
  after="$(processor_ns "$SERVER")"; kill "$SERVER"; wait "$SERVER" 2>/dev/null; SERVER=""
  operations="$(sed 's/ operations.*//' "$DIR/load")"
  bytes="$("$BUILD/bin/ftlog" stats "$LOG" | sed -n 's/^all .* records, \([0-9]*\) bytes.*/\1/p')"
  echo "$((${bytes:-0} / operations)) $(((after - before) / operations)) $operations" >>"$DIR/$1.$4"
}
median() { sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }
for _ in $(seq "$ROUNDS"); do
  for count in "${connections[@]}"; do
    for one in "$@"; do
      rest="${one#*=}"; library="${rest%%,*}"; environment=""; [ "$rest" != "$library" ] && environment="${rest#*,}"
      once "${one%%=*}" "$library" "$environment" "$count"
    done
  done
done
for count in "${connections[@]}"; do
  for one in "$@"; do
    f="$DIR/${one%%=*}.$count"
    echo "$count connections, ${one%%=*}: $(cut -d' ' -f1 "$f" | median) bytes, $(cut -d' ' -f2 "$f" | median) ns of processor, a request; $(cut -d' ' -f3 "$f" | median) requests in $MILLISECONDS ms"
  done
done
