#!/usr/bin/env bash
# Proves the lab itself: hosts come up, run containers, die whole, boot again with their disks, and leave nothing.
# Runs as a lab of its own name, beside any other.
set -euo pipefail
cd "$(dirname "$0")/../.."
export FTLAB_NAME=ftsmoke
lab=./bin/ftlab
step=starting

fail() {
  echo "smoke: $step: $1" >&2
  exit 1
}
finish() {
  local code=$?
  $lab down || code=1
  [ $code = 0 ] && echo "smoke: ok" || echo "smoke: failed while: $step" >&2
  exit $code
}

# Whatever carries the lab's name: namespaces, mounts, control groups, folders; and its processes, by namespace.
traces() {
  ip netns list | grep "^$FTLAB_NAME-" || true
  grep -h "$FTLAB_NAME" /proc/self/mountinfo || true
  find /sys/fs/cgroup -maxdepth 2 -name "$FTLAB_NAME*"
  find /var/lib -maxdepth 1 -name "$FTLAB_NAME"
  local pid
  for pid in /proc/[0-9]*; do
    grep -qs "/var/lib/$FTLAB_NAME/" "$pid/mountinfo" && echo "process ${pid#/proc/} $(tr '\0' ' ' <"$pid/cmdline")"
  done
  true
}
docker_on() { $lab exec "$1" -- docker "${@:2}"; }
has() { [[ $1 == *"$2"* ]] || fail "expected '$2' in: $1"; }

step="an earlier lab is cleared away"
$lab down
[ -z "$(traces)" ] || fail "left: $(traces)"
trap finish EXIT

step="up"
$lab up --no-agents
before=$(readlink "/proc/$($lab pids alpha | awk 'NR==1 { print $1 }')/ns/pid")
$lab up --no-agents
[ "$before" = "$(readlink "/proc/$($lab pids alpha | awk 'NR==1 { print $1 }')/ns/pid")" ] || fail "up twice is not up once"
[ -n "$(traces)" ] || fail "the traces looked for at the end do not show even now"

step="hosts have their own network and reach each other"
has "$($lab exec alpha -- ip -4 -br address)" 10.77.0.1/24
$lab exec client -- node -e '
  const net = require("net");
  const s = net.connect(9, "10.77.0.2").on("error", (e) => process.exit(e.code === "ECONNREFUSED" ? 0 : 1));
  setTimeout(() => process.exit(1), 3000);' || fail "the client does not reach beta"

step="a container on alpha"
$lab workload echo 2>/dev/null
ids=$(for host in alpha beta; do docker_on $host image inspect -f '{{.Id}}' ft-echo; done | sort -u | wc -l)
[ "$ids" = 1 ] || fail "the image differs between the hosts"
docker_on alpha run -d --name echo --network none ft-echo >/dev/null
docker_on alpha run -d --name other --network none --restart no ft-echo >/dev/null
has "$(docker_on alpha exec echo sh -c '(printf "1 hello\n"; sleep 0.3) | nc 127.0.0.1 7007')" "ok 1 1 hello"
docker_on alpha exec echo sh -c 'echo kept > /data/file'
[ -z "$(docker_on beta ps -q)" ] || fail "beta shows alpha's container"

step="exit codes and arguments pass through exec"
code=0 && $lab exec alpha -- sh -c 'exit 42' || code=$?
[ "$code" = 42 ] || fail "exit code $code"
has "$($lab exec alpha -- hostname)" alpha
code=0 && $lab cut alpha --link nothing 2>/dev/null || code=$?
[ "$code" = 2 ] || fail "exit code $code for a wrong command line"
code=0 && $lab kill nobody 2>/dev/null || code=$?
[ "$code" = 3 ] || fail "exit code $code for an unknown host"

step="links are cut and mended"
$lab cut alpha --link replication
has "$($lab exec alpha -- ip link show rep0)" NO-CARRIER
has "$($lab exec alpha -- ip link show lan0)" LOWER_UP
$lab mend alpha --link replication
has "$($lab exec alpha -- ip link show rep0)" LOWER_UP

step="Docker dies alone and comes back to its containers"
$lab dockerd alpha kill
! docker_on alpha ps >/dev/null 2>&1 || fail "Docker still answers"
$lab dockerd alpha start
has "$(docker_on alpha ps --format '{{.Names}}')" echo

step="power loss takes every process of the host"
pids=$($lab pids alpha | cut -f1)
[ "$(wc -w <<<"$pids")" -ge 6 ] || fail "too few processes to prove anything: $pids"
$lab kill alpha
for pid in $pids; do [ ! -e "/proc/$pid" ] || fail "process $pid lives: $(tr '\0' ' ' <"/proc/$pid/cmdline")"; done
[ -z "$(traces | grep alpha)" ] || fail "left: $(traces | grep alpha)"
has "$($lab status)" off
[ "$($lab pids beta | wc -l)" -ge 4 ] || fail "beta died too"

step="power comes back: the disk is the old one, the rest is new"
$lab boot alpha
has "$(docker_on alpha ps -a --format '{{.Names}} {{.Status}}')" "echo Exited"
docker_on alpha start echo >/dev/null
has "$(docker_on alpha exec echo cat /data/file)" kept

step="down leaves nothing"
$lab down
left=$(traces)
[ -z "$left" ] || fail "left: $left"

step="a lab whose state was lost is still cleared away"
$lab up --no-agents --hosts alpha 2>/dev/null
rm "/var/lib/$FTLAB_NAME/lab.json"
$lab down
[ -z "$(traces)" ] || fail "left: $(traces)"
