#!/bin/bash
# Records the test programs (and real servers, if they are installed), and replays them: from their start, and from a CRIU
# checkpoint in the middle after a kill -9. Short by default.
#
#   FULL=1 recorder/test/run.sh
#   ROUNDS=20 MILLISECONDS=1500 GENERATIONS=3 recorder/test/run.sh [start|middle|generations|anew] [program…] [server…]
#   PACED=paced ROUNDS=20 recorder/test/run.sh start race-counter race-flag      data races: replays differ, less often paced
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD="${BUILD:-$(realpath ../build)}"
FULL="${FULL:-}"; ROUNDS="${ROUNDS:-1}"; MILLISECONDS="${MILLISECONDS:-300}"; GENERATIONS="${GENERATIONS:-2}"; SEGMENTS="${SEGMENTS:-256}"
PACED="${PACED:-}" # paced: recorded intervals are enforced in the replays
FTLOG="$BUILD/bin/ftlog"; LIB="$BUILD/lib/libftrec.so"; TOOLKIT="$BUILD/toolkit"
PROGRAMS="mutex rwlock condition semaphore threads clocks channels sockets children files timer signals shorts pipes \
  facts attributes streams temporary waits sendfile deadlines deaf counted bank race-none family outsiders"
. recorder/test/servers.sh
SERVERS=""
for server in redis redis-aof redis-always redis-save memcached lighttpd nginx-1 nginx-2; do server_is_here "$server" && SERVERS="$SERVERS $server"; done
ways=""; names=""
for word in "$@"; do
  case "$word" in start|middle|generations|anew) ways="$ways $word";; *) names="$names $word";; esac
done
# Short: every program, no server, one checkpoint.
if [ -z "$ways$names$FULL" ]; then names="$PROGRAMS"; ways="start middle"; LIFE_MS="${LIFE_MS:-1200}"; fi
ways="${ways:-start middle generations}"; names="${names:-$PROGRAMS $SERVERS}"

DIR="$(mktemp -d)"; SHM="$(mktemp -d /dev/shm/recorder-XXXXXX)"; LOG="$SHM/log"
KEEP=""; INIT=""; HOLDER=""
cleanup() {
  [ -n "$INIT" ] && kill -9 "$INIT" 2>/dev/null
  wait 2>/dev/null
  rm -rf "$SHM"; [ -n "$KEEP" ] && echo "kept: $DIR" || rm -rf "$DIR"
}
trap cleanup EXIT
passed=0; failed=0
fail() { echo "FAIL $*"; failed=$((failed + 1)); KEEP=yes; cp "$LOG" "$DIR/failed-$failed.log" 2>/dev/null; }
pass() { passed=$((passed + 1)); [ -n "${VERBOSE:-}" ] && echo "ok $*"; }

# A container of a kind: its own pids, mounts and network, in which CRIU runs too.
container() {
  unshare --pid --mount --net --uts --ipc --fork --mount-proc bash -c 'ip link set lo up; while :; do sleep 1 & wait; done' 2>/dev/null &
  HOLDER=$!
  for _ in $(seq 50); do INIT="$(pgrep -P "$HOLDER")" && return 0; sleep 0.05; done
  return 1
}
inside() { nsenter -t "$INIT" -p -m -n -u -i "$@"; }
criu() { inside "$TOOLKIT/ld.so" --library-path "$TOOLKIT/lib" "$TOOLKIT/criu" "$@" --tcp-close --skip-in-flight --manage-cgroups=ignore; }
# In a session of its own, with nothing inherited, in a folder of its own. Its pid (inside) is in $DIR/pid on return.
launch() {
  rm -f "$DIR/pid"
  inside bash -c "for f in {3..60}; do eval \"exec \$f>&-\"; done; cd $DIR/work
    exec setsid -f bash -c 'echo \$\$ >$DIR/pid.new; mv $DIR/pid.new $DIR/pid; exec env FTREC_LOG=$LOG LD_PRELOAD=$LIB FTREC_STALL_MS=8000 $*' </dev/null >/dev/null 2>&1"
  for _ in $(seq 200); do [ -s "$DIR/pid" ] && return; sleep 0.02; done
}
outcome() { "$FTLOG" report "$LOG" | sed -n 's/^outcome=//p'; }
value() { "$FTLOG" report "$LOG" | sed -n "s/^$1=//p"; }
await_report() {
  for _ in $(seq 200); do [ "$(outcome)" != none ] && return 0; sleep 0.05; done
  return 1
}
# What a shipper does after each checkpoint: without it a log fills up, and the application waits, as it must.
trim_until_it_ends() { # pid
  for _ in $(seq 400); do alive "$1" || return 0; "$FTLOG" trim "$LOG"; sleep 0.05; done
  return 1
}
end() { inside kill -9 -- "-$1" 2>/dev/null; } # with its children
alive() { inside kill -0 "$1" 2>/dev/null; }
# All of it: CRIU needs the pids again, and a child that nobody has waited for yet has one.
await_group_end() {
  for _ in $(seq 200); do inside kill -0 -- "-$1" 2>/dev/null || return 0; sleep 0.05; done
  return 1
}
await_end() {
  for _ in $(seq 200); do alive "$1" || return 0; sleep 0.05; done
  return 1
}
command_of() {
  case "$1" in
  redis*|memcached|lighttpd|nginx-*) server_command "$1" "$DIR/work";;
  counted) echo "FTREC_NO_SOLO=1 $BUILD/test/recorder-program-counted $MILLISECONDS $DIR/result";;
  outsiders*) echo "$BUILD/test/recorder-program-outsiders $MILLISECONDS $DIR/result ${1#outsiders-}";;
  sockets*) echo "$BUILD/test/recorder-program-sockets $MILLISECONDS $DIR/result ${1#sockets-}";;
  *) echo "$BUILD/test/recorder-program-$1 $MILLISECONDS $DIR/result";;
  esac
}
load_of() { inside bash -c "BUILD=$BUILD . $PWD/recorder/test/servers.sh; server_load $1 $BUILD/test/recorder-load 16 $MILLISECONDS $RANDOM" >"$DIR/load"; }
is_server() { [ -n "$(server_program "$1")" ]; }
files_as_at_the_start() { rm -rf "$DIR/work"; mkdir -p "$DIR/work"; server_files "$1" "$DIR/work"; }
fresh() { rm -rf "$DIR/result"; files_as_at_the_start "$1"; "$FTLOG" create "$LOG" 64 "$SEGMENTS"; }
state_of() { case "$1" in redis*) inside redis-cli -p 7401 debug digest;; esac; }
# Its log of changes, which the replay has written again, makes the same state.
files_agree() { # name
  local before
  case "$1" in
  redis-?*) before="$(state_of "$1")"; [ "$(inside redis-cli -p 7401 debug loadaof)" = OK ] && [ "$before" = "$(state_of "$1")" ];;
  esac
}
# Where each lane ends is what the replay has reached: should it be made again, then to there.
reached_its_heads() { # of those that were not written to since
  od -An -v -t u8 -w128 -j 8192 -N 8192 "$LOG" | awk '$7 > 0 && $7 - 1 > $1 { bad = 1 } $7 > 0 { any = 1 } END { exit bad || !any }'
}
check_report() { # name way
  await_report || { fail "$1 $2: no report"; return 1; }
  [ "$(outcome)" = replayed ] || { fail "$1 $2:"; "$FTLOG" report "$LOG"; return 1; }
  [ "$(value outputs-verified)" -gt 0 ] || [ "${3:-0}" -gt 0 ] || { fail "$1 $2: no output was verified"; return 1; }
  # A kill may cut a lane off a few records before the others; a replay that stops for another reason leaves more. What `counted`
  # leaves is little, and none of it may be left.
  local most="${UNREACHED_MAX:-20000}"; [ "$1" = counted ] && most=1
  [ "$(value unreached-bytes)" -lt "$most" ] || { fail "$1 $2: ends before the log:"; "$FTLOG" report "$LOG"; return 1; }
  [ -n "${VERBOSE:-}" ] && "$FTLOG" report "$LOG" | tr '\n' ' ' && echo
  return 0
}

from_start() {
  fresh "$1"; launch "$(command_of "$1")"; local pid digest; pid="$(cat "$DIR/pid")"
  if is_server "$1"; then
    sleep 0.3; load_of "$1"; digest="$(state_of "$1")"; end "$pid"; sleep 0.1
  else
    await_end "$pid" || { fail "$1 start: does not end when recorded"; return; }
    [ "$(cat "$DIR/result" 2>/dev/null)" = ok ] || { fail "$1 start: fails when recorded: $(cat $DIR/result)"; return; }
  fi
  "$FTLOG" stats "$LOG" >"$DIR/stats" || { fail "$1 start: the log"; tail -3 "$DIR/stats"; return; }
  grep -q 'lost: nothing' "$DIR/stats" || { fail "$1 start: lost"; return; }
  "$FTLOG" mode "$LOG" replay live $PACED
  files_as_at_the_start "$1"
  launch "$(command_of "$1")"; pid="$(cat "$DIR/pid")"
  if ! check_report "$1" start; then alive "$pid" && end "$pid"; return; fi
  if is_server "$1"; then
    [ "$digest" = "$(state_of "$1")" ] || { fail "$1 start: another state"; }
    end "$pid"; sleep 0.1
  else
    await_end "$pid" || { fail "$1 start: does not end"; end "$pid"; return; }
  fi
  pass "$1 start"
}

# What cannot be recorded: the application goes on, and the log says by name why it is lost.
loses() { # program lanes why
  rm -rf "$DIR/work" "$DIR/result"; mkdir -p "$DIR/work"; "$FTLOG" create "$LOG" "$2" "$SEGMENTS"
  launch "$(command_of "$1")"; local pid; pid="$(cat "$DIR/pid")"
  await_end "$pid" || { fail "$1 lost: does not end"; end "$pid"; return; }
  [ "$(cat "$DIR/result" 2>/dev/null)" = ok ] || { fail "$1 lost: fails: $(cat "$DIR/result")"; return; }
  "$FTLOG" stats "$LOG" 2>/dev/null | grep -q "lost: $3" || { fail "$1: not lost, or not for $3:"; "$FTLOG" stats "$LOG" | grep lost; return; }
  pass "$1 lost: $3"
}

# CRIU alone cannot bear a child that ends while it is being seized; the product's hook can. Then it is made once more.
checkpoint() { # pid
  checkpoint_once "$1" && return
  grep -q 'Unable to detach from' "$DIR/images/dump.log" && inside kill -CONT -- "-$1" && checkpoint_once "$1"
}
checkpoint_once() { # pid
  rm -rf "$DIR/images"; mkdir "$DIR/images"
  # Files belong to a checkpoint: they are copied while the process stands still.
  criu dump -t "$1" -D "$DIR/images" --leave-stopped -o dump.log -v2 >/dev/null &&
    cp -a "$DIR/work" "$DIR/images/work" && "$FTLOG" trim "$LOG" all && inside kill -CONT -- "-$1"
}
# On a slow machine a program may end before CRIU begins, or before CRIU has let go of it: it gets more time.
has_ended() { [ "$(cat "$DIR/result" 2>/dev/null)" = ok ]; }
restore() {
  rm -rf "$DIR/work"/*; cp -a "$DIR/images/work/." "$DIR/work/"
  # A restore leaves the pid counter at its tasks: CRIU's own pids would be the next one's.
  inside bash -c 'echo $(($(cat /proc/sys/kernel/ns_last_pid) + 500)) >/proc/sys/kernel/ns_last_pid'
  criu restore -d -D "$DIR/images" -o restore.log -v2 >/dev/null
}

# On a slow machine nothing may have been said for a while.
await_output() { # name
  sleep 0.1
  is_server "$1" || return 0
  for _ in $(seq 30); do "$FTLOG" dump "$LOG" | grep -q ' output ' && return 0; sleep 0.1; done
}

# Of an application that was restored without its log: it begins to record again by itself.
await_recording() {
  for _ in $(seq 100); do "$FTLOG" stats "$LOG" | grep -q 'mode record;' && return 0; sleep 0.05; done
  return 1
}

# Record, checkpoint, go on, kill, restore, replay; as often as there are generations; then let it end.
from_middle() {
  local name="$1" generations="$2" way="$3" life="${4:-${LIFE_MS:-2500}}" pid digest loader after=record
  fresh "$name"
  launch "$(MILLISECONDS=$((life * generations)) command_of "$name")"; pid="$(cat "$DIR/pid")"
  is_server "$name" && sleep 0.3
  for generation in $(seq "$generations"); do
    loader=""
    if is_server "$name"; then MILLISECONDS=2500 load_of "$name" & loader=$!; fi
    sleep "0.$((RANDOM % 4 + 1))$((RANDOM % 10))"
    if ! checkpoint "$pid"; then
      has_ended && [ "$life" -lt 20000 ] && { from_middle "$name" "$generations" "$way" $((life * 2)); return; }
      fail "$name $way: dump"; grep -i 'error (' "$DIR/images/dump.log"; end "$pid"; return
    fi
    if [ -n "$loader" ] && [ $((RANDOM % 2)) = 0 ]; then wait "$loader"; digest="$(state_of "$name")"; else await_output "$name"; digest=""; fi
    end "$pid"; [ -n "$loader" ] && wait "$loader"
    await_group_end "$pid"
    if [ "$way/$generation" = anew/1 ]; then "$FTLOG" create "$LOG" 64 "$SEGMENTS" anew; else "$FTLOG" mode "$LOG" replay "$after" $PACED; fi
    if ! restore; then
      has_ended && [ "$life" -lt 20000 ] && { from_middle "$name" "$generations" "$way" $((life * 2)); return; }
      fail "$name $way: restore"; grep -i 'error (' "$DIR/images/restore.log"; return
    fi
    if [ "$way/$generation" = anew/1 ]; then
      await_recording || { fail "$name $way: is not recorded anew:"; "$FTLOG" stats "$LOG" | tail -1; end "$pid"; return; }
      continue
    fi
    if ! check_report "$name" "$way $generation" "$(is_server "$name" && echo 0 || echo 1)"; then alive "$pid" && end "$pid"; return; fi
    reached_its_heads || { fail "$name $way: the end of the replay is not in its lanes"; end "$pid"; return; }
    [ -n "$digest" ] && [ "$digest" != "$(state_of "$name")" ] && { fail "$name $way: another state"; end "$pid"; return; }
  done
  if is_server "$name"; then
    MILLISECONDS=100 load_of "$name" || fail "$name $way: does not serve after the replay"
    files_agree "$name" || fail "$name $way: its files say something else"
    end "$pid"; sleep 0.1
  else
    trim_until_it_ends "$pid" || { fail "$name $way: does not end after the replay"; end "$pid"; return; }
    [ "$(cat "$DIR/result" 2>/dev/null)" = ok ] || { fail "$name $way: fails after the replay: $(cat $DIR/result)"; return; }
  fi
  pass "$name $way"
}

[ "$(id -u)" = 0 ] || { echo "skipped: needs root"; exit 0; }
container || { echo "skipped: no namespaces here"; exit 0; }
can_checkpoint=yes
[ -x "$TOOLKIT/criu" ] && criu check >/dev/null 2>&1 || { can_checkpoint=; echo "no CRIU that works: from the start only"; }
for _ in $(seq "$ROUNDS"); do
  for name in $names; do
    for way in $ways; do
      case "$way" in
      start) from_start "$name"
        [ "$name" = family ] && loses family 3 lanes
        [ "$name" = outsiders ] && loses outsiders-serve 64 fork;;
      middle) [ -n "$can_checkpoint" ] && from_middle "$name" 1 middle;;
      anew) [ -n "$can_checkpoint" ] && from_middle "$name" $((GENERATIONS + 1)) anew;;
      generations) [ -n "$can_checkpoint" ] && from_middle "$name" "$GENERATIONS" generations;;
      esac
    done
  done
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
