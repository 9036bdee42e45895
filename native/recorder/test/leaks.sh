#!/bin/bash
# Lists the system calls that pass the recorder by, of each server that is installed, under load: every kind of them must be
# explained in leaks/explained.list. Then shows that it would tell: with one wrapper taken out, and without the list.
#
#   recorder/test/leaks.sh [redis|memcached|lighttpd|nginx-2…]       SHOW=--all: the explained ones too
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD="${BUILD:-$(realpath ../build)}"
LEAKS="$BUILD/test/recorder-leaks"; LIST="$PWD/recorder/test/leaks/explained.list"
[ -x "$LEAKS" ] || { echo "skipped: the tracer is for x86-64"; exit 0; }
DIR="$(mktemp -d)"; SHM="$(mktemp -d /dev/shm/leaks-XXXXXX)"; LOG="$SHM/log"; TRACER=""
cleanup() {
  [ -n "$TRACER" ] && kill -9 "$TRACER" 2>/dev/null
  wait 2>/dev/null
  rm -rf "$SHM" "$DIR"
}
trap cleanup EXIT
. recorder/test/servers.sh

# Runs a server, recorded by a library, under load; what the tracer says is in $DIR/said, its status is returned.
trace() { # server library list
  "$BUILD/bin/ftlog" create "$LOG" 64 256
  rm -rf "$DIR/work"; mkdir "$DIR/work"; server_files "$1" "$DIR/work"
  local children=""
  case "$1" in nginx-*) children=--children;; esac
  (cd "$DIR/work" && exec timeout -k 5 60 "$LEAKS" --log "$LOG" --library "$2" --explained "$3" $children ${SHOW:-} $(server_command "$1" "$DIR/work")) >"$DIR/said" 2>"$DIR/errors" &
  TRACER=$!
  server_load "$1" "$BUILD/test/recorder-load" 8 1000 "$RANDOM" >"$DIR/load" || { echo "$1: no load"; cat "$DIR/errors"; }
  server_extra "$1"
  # timeout, tracer, server: the server is asked to end
  local tracer; tracer="$(pgrep -P "$TRACER")"
  kill -TERM "$tracer" 2>/dev/null
  wait "$TRACER"; local status=$?; TRACER=""
  return $status
}
failed=0
servers="${*:-redis redis-aof memcached lighttpd nginx-1 nginx-2}"
for server in $servers; do
  server_is_here "$server" || { echo "$server: not installed"; continue; }
  trace "$server" "$BUILD/lib/libftrec.so" "$LIST"; status=$?
  grep -a '^NOT' -A1 "$DIR/said"
  [ -n "${SHOW:-}" ] && grep -a '^   ' "$DIR/said"
  echo "$server: $(tail -1 "$DIR/said")"
  [ "$status" = 0 ] || { echo "FAIL $server"; tail -3 "$DIR/errors"; failed=1; }
done
[ $# = 0 ] || exit $failed

# The test can fail: a library without gettimeofday's wrapper (its name in the table of exports is spoilt), and an empty list.
if server_is_here redis; then
  perl -0777 -pe 's/\0gettimeofday\0/\0gettimeofdax\0/' "$BUILD/lib/libftrec.so" >"$DIR/libftrec.so"
  trace redis "$DIR/libftrec.so" "$LIST"
  [ $? = 1 ] && grep -aq '^NOT.* gettimeofday' "$DIR/said" || { echo "FAIL a missing wrapper is not noticed"; tail -3 "$DIR/said"; failed=1; }
  : >"$DIR/empty"
  trace redis "$BUILD/lib/libftrec.so" "$DIR/empty"
  [ $? = 1 ] || { echo "FAIL without a list nothing is complained of"; failed=1; }
fi
exit $failed
