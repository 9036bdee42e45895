#!/bin/sh
# ftinit as the real PID 1 of a pid and network namespace: control from outside, none from inside, signals,
# orphans, exit codes. Needs root.
set -eu
[ "$(id -u)" = 0 ] || { echo "skipped: needs root"; exit 0; }
INIT="${BUILD:?}/bin/ftinit"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

fail() { echo "  FAILED: $*"; exit 1; }
expect() { case "$2" in $1) ;; *) fail "expected '$1', got '$2'" ;; esac; }
# Polls a condition for up to 10 s.
until_true() { n=0; until "$@" 2>/dev/null; do n=$((n + 1)); [ $n -lt 500 ] || fail "never true: $*"; sleep 0.02; done; }
has_child() { HOST=$(cat "/proc/$1/task/$1/children"); HOST=${HOST% }; [ -n "$HOST" ]; }
listens() { "$INIT" --ask "$HOST" hello >/dev/null; }

# begin [unshare options…] -- command…   sets OUTER (to wait for) and HOST (ftinit's pid here)
begin() {
	options=
	while [ "$1" != -- ]; do options="$options $1"; shift; done
	unshare --pid --net --ipc --fork --mount-proc --kill-child $options "$INIT" "$@" >"$WORK/out" 2>"$WORK/err" &
	OUTER=$!
	until_true has_child "$OUTER"
	until_true listens
}
ask() { "$INIT" --ask "$HOST" "$@" || true; }
ended() { code=0; wait "$OUTER" || code=$?; [ "$code" = "$1" ] || fail "exit code $code, not $1"; }

begin -- sh -c 'exit 7'
expect 'ok state=waiting pid=0 status=0' "$(ask status)"
"$INIT" --ask "$HOST" subscribe >"$WORK/events" &
SUBSCRIBER=$!
until_true grep -q ok "$WORK/events"
expect 'ok pid=*' "$(ask start)"
ended 7
wait "$SUBSCRIBER"
expect '*event exited pid=* status=7 signal=0' "$(cat "$WORK/events")"
echo "  start, event, exit code"

begin -- sh -c 'trap "echo caught; exit 5" USR1; echo ready; while :; do sleep 0.05; done'
ask start >/dev/null
until_true grep -q ready "$WORK/out"
kill -USR1 "$HOST"
ended 5
grep -q caught "$WORK/out" || fail "the signal did not arrive"
begin -- sleep 60
ask start >/dev/null
kill -TERM "$HOST"
ended 143
begin -- sleep 60
kill -TERM "$HOST"
ended 143
echo "  signals, running and waiting"

# The application tries to control its own PID 1, from its namespace and from one below.
begin -- sh -c "$INIT --ask 1 status; unshare --pid --fork $INIT --ask 1 adopt pid=1; true"
ask start >/dev/null
ended 0
if grep -q '^ok' "$WORK/out"; then fail "ftinit obeyed a process inside: $(cat "$WORK/out")"; fi
[ "$(grep -c '^fail' "$WORK/out")" = 2 ] || fail "two refusals expected: $(cat "$WORK/out")"
echo "  deaf to the inside"

# An orphan of a process that came from outside (as docker exec makes them) is reaped.
begin -- sleep 60
ask start >/dev/null
nsenter -t "$HOST" -p -m sh -c 'sh -c "sleep 0.1 & :" & wait'
no_zombie() { ! cat /proc/[0-9]*/stat | grep -q " (sleep) Z $HOST "; }
only_application() { set -- $(cat "/proc/$HOST/task/$HOST/children"); [ $# = 1 ]; }
until_true only_application
no_zombie || fail "an orphan was not reaped"

# Adoption: a child that was not started by ftinit, as CRIU leaves one.
kill -TERM "$HOST"
ended 143
begin -- sleep 60
nsenter -t "$HOST" -p -m sh -c 'sh -c "(trap \"exit 33\" TERM; while :; do sleep 0.05; done) & :"' >/dev/null 2>&1
one_orphan() { set -- $(cat "/proc/$HOST/task/$HOST/children"); [ $# = 1 ] && ORPHAN=$1; }
until_true one_orphan
INSIDE=$(awk '/^NSpid/ { print $NF }' "/proc/$ORPHAN/status")
expect 'fail code=not-child *' "$(ask adopt pid=4000000)"
expect "ok pid=$INSIDE" "$(ask adopt "pid=$INSIDE")"
expect "ok state=running pid=$INSIDE status=0" "$(ask status)"
kill -TERM "$HOST"
ended 33
echo "  orphans and adoption"

# Ten clients at once: eight are served, the others told so; and a line without end is cut off.
begin -- sleep 60
for i in 1 2 3 4 5 6 7 8; do "$INIT" --ask "$HOST" subscribe >"$WORK/sub$i" & done
all_subscribed() { [ "$(cat "$WORK"/sub? | grep -c ok)" = 8 ]; }
until_true all_subscribed
expect 'fail code=busy *' "$(ask status)"
kill -TERM "$HOST"
ended 143
wait
echo "  bounded connections"

begin --setuid=65534 -- sh -c 'test "$(id -u)" = 65534 && ls /proc/self/fd >/dev/null && exit 21'
ask start >/dev/null
ended 21
begin -- /nonexistent
expect 'fail code=exec errno=2 *' "$(ask start)"
kill -TERM "$HOST"
ended 143
expect 'fail code=unreachable *' "$("$INIT" --ask $$ status || true)"
echo "  another user, a missing command, nobody there"
