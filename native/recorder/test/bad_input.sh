#!/bin/bash
# A log that is damaged, of another version or of another build; one that nobody ships; a replay that does not come on. Each
# has to be detected, named, and to end in a stated outcome within a bound.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD="${BUILD:-$(realpath ../build)}"; FLIPS="${FLIPS:-12}"
FTLOG="$BUILD/bin/ftlog"; LIB="$BUILD/lib/libftrec.so"; SPOIL="$BUILD/test/recorder-spoil"
SHM="$(mktemp -d /dev/shm/bad-input-XXXXXX)"; LOG="$SHM/log"
PID=""
trap '[ -n "$PID" ] && kill -9 "$PID" 2>/dev/null; wait 2>/dev/null; rm -rf "$SHM"' EXIT
failed=0
fail() { echo "FAIL $*"; failed=1; }
outcome() { "$FTLOG" report "$LOG" | sed -n 's/^outcome=//p'; }
what() { "$FTLOG" report "$LOG" | sed -n 's/^what=//p' | head -1; }
# Runs a program with the log as it is, for at most ten seconds; its status.
run() { # milliseconds program [environment…]
  local ms="$1" program="$2"; shift 2
  (cd "$SHM" && exec env FTREC_LOG="$LOG" LD_PRELOAD="$LIB" FTREC_STALL_MS=500 "$@" timeout -s KILL 10 "$BUILD/test/$program" "$ms" "$SHM/result") >"$SHM/out" 2>"$SHM/err"
}
record() { # program [segments]
  rm -f "$SHM/result"; "$FTLOG" create "$LOG" 8 "${2:-16}"
  (cd "$SHM" && FTREC_LOG="$LOG" LD_PRELOAD="$LIB" exec "$BUILD/test/$1" 400 "$SHM/result") >/dev/null 2>&1
  cp "$LOG" "$SHM/whole"
}
whole() { cp "$SHM/whole" "$LOG"; }
replay() { # program [environment…]: the program itself owns lane 0
  local program="$1"; shift
  "$FTLOG" mode "$LOG" replay live || return
  (cd "$SHM" && exec env FTREC_LOG="$LOG" LD_PRELOAD="$LIB" FTREC_STALL_MS=500 "$@" "$BUILD/test/$program" 400 "$SHM/result") >"$SHM/out" 2>"$SHM/err" &
  PID=$!
  for _ in $(seq 100); do kill -0 "$PID" 2>/dev/null || break; sleep 0.1; done
  kill -0 "$PID" 2>/dev/null && { fail "$program: still there after ten seconds"; kill -9 "$PID"; }
  wait "$PID"; local status=$?; PID=""
  return $status
}
expect() { # status wanted message
  [ "$1" = "$2" ] || fail "$3: ended with $1, not $2: $(tail -1 "$SHM/err")"
}

# Damage, anywhere in what a check guards: ftlog names it, and a replay ends by it or by what it leads to.
record recorder-program-clocks
"$FTLOG" check "$LOG" "$LIB"; expect $? 0 "a whole log"
replay recorder-program-clocks; [ "$(outcome)" = replayed ] || fail "a whole log: $(outcome)"
for seed in $(seq "$FLIPS"); do
  whole; where="$("$SPOIL" "$LOG" record "$seed")" || fail "spoil"
  "$FTLOG" check "$LOG" >"$SHM/said"; expect $? 3 "check, $where"
  grep -q 'corrupt\|torn' "$SHM/said" || fail "check does not say where: $where"
  replay recorder-program-clocks
  # A version that is none looks like a log that was cut off: the replay ends early, and says how much it has not reached.
  unreached="$("$FTLOG" report "$LOG" | sed -n 's/^unreached-bytes=//p')"
  case "$(outcome)" in
  corrupt|diverged|stalled) ;;
  replayed) [ "${unreached:-0}" -gt 0 ] || fail "replay, $where: replayed";;
  *) fail "replay, $where: $(outcome)";;
  esac
done
for seed in $(seq "$FLIPS"); do
  whole; "$SPOIL" "$LOG" header "$seed"
  "$FTLOG" check "$LOG" 2>"$SHM/err"; expect $? 5 "a damaged header"
done
run 100 recorder-program-clocks; grep -q "not an event log, or damaged; nothing is recorded" "$SHM/err" || fail "the recorder takes a damaged header"
whole; "$SPOIL" "$LOG" directory; "$FTLOG" check "$LOG" >"$SHM/said"; expect $? 3 "a lost segment"
whole; truncate -s -4096 "$LOG"; "$FTLOG" check "$LOG" 2>"$SHM/err"; expect $? 5 "a log that was cut off"

# Another version; another build.
whole; "$SPOIL" "$LOG" version
for verb in check stats dump report trim; do "$FTLOG" $verb "$LOG" >/dev/null 2>"$SHM/err"; expect $? 4 "$verb of another version"; done
"$FTLOG" mode "$LOG" replay 2>"$SHM/err"; expect $? 4 "mode of another version"
grep -q "another version" "$SHM/err" || fail "ftlog does not name another version"
run 100 recorder-program-clocks; grep -q "another version; nothing is recorded" "$SHM/err" || fail "the recorder takes another version"
whole; "$SPOIL" "$LOG" build
"$FTLOG" check "$LOG" "$LIB" 2>"$SHM/err"; expect $? 6 "another build"
replay recorder-program-clocks; expect $? 79 "replay by another build"
[ "$(outcome)/$(what)" = "corrupt/recorded by another build of libftrec.so" ] || fail "another build: $(outcome) $(what)"

# Nobody ships the log: it fills up, and the application waits; it goes on when there is room, and ends when told to go live.
rm -f "$SHM/result"; "$FTLOG" create "$LOG" 8 2
(cd "$SHM" && FTREC_LOG="$LOG" LD_PRELOAD="$LIB" exec "$BUILD/test/recorder-program-mutex" 6000 "$SHM/result") >/dev/null 2>&1 &
PID=$!
full() { "$FTLOG" stats "$LOG" | grep -q 'full [1-9]'; }
for _ in $(seq 100); do full && break; sleep 0.1; done
full || fail "the log does not fill up"
heads() { "$FTLOG" stats "$LOG" | awk '/active/ { print $1, $5 }'; }
# One lane waits; the others follow when their segments are full.
for _ in $(seq 20); do before="$(heads)"; sleep 0.5; [ "$before" = "$(heads)" ] && break; done
[ "$before" = "$(heads)" ] || fail "a full log grows"
kill -0 "$PID" 2>/dev/null || fail "a full log ends the application"
[ -e "$SHM/result" ] && fail "the application went on beside a full log"
"$FTLOG" trim "$LOG" all; sleep 0.3
[ "$before" = "$(heads)" ] && fail "with room again the application still waits"
"$FTLOG" stats "$LOG" | grep -q 'lost: nothing' || fail "a full log loses records"
"$FTLOG" mode "$LOG" live
for _ in $(seq 100); do kill -0 "$PID" 2>/dev/null || break; sleep 0.1; done
kill -0 "$PID" 2>/dev/null && fail "in mode live the application still waits"
wait "$PID"; PID=""
[ "$(cat "$SHM/result" 2>/dev/null)" = ok ] || fail "after a full log: $(cat "$SHM/result" 2>/dev/null)"

# A thread that never comes to its next event.
record recorder-stuck
replay recorder-stuck STUCK=1; expect $? 78 "a thread that computes for ever"
[ "$(outcome)" = stalled ] || fail "a thread that computes for ever: $(outcome)"
grep -q '^thread=0 runs' <("$FTLOG" report "$LOG") || fail "a stall does not say which thread"
# One whose clients' connections are to be taken over does not end by itself, as its sockets would speak: it stands until it is ended.
for round in $(seq "$FLIPS"); do
  whole; "$FTLOG" mode "$LOG" replay live || fail "mode"
  (cd "$SHM" && exec env FTREC_LOG="$LOG" FTREC_LIVE=nobody-listens LD_PRELOAD="$LIB" FTREC_STALL_MS=100 STUCK=1 "$BUILD/test/recorder-stuck" 400 "$SHM/result") >/dev/null 2>&1 &
  PID=$!
  for _ in $(seq 100); do [ "$(outcome)" = stalled ] && break; sleep 0.05; done
  sleep 0.1
  state="$(awk '/^State/ { print $2 }' "/proc/$PID/status" 2>/dev/null)"
  [ "$state" = T ] || fail "a stalled replay, round $round: its process is ${state:-gone}, not stopped"
  kill -9 "$PID" 2>/dev/null; wait "$PID" 2>/dev/null; PID=""
done
[ "$failed" = 0 ] && echo "bad input: all detected"
exit $failed
