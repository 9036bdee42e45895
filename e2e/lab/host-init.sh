#!/bin/sh
# First process of a lab host, in fresh mount, UTS, IPC and pid namespaces and in the host's network namespace:
# gives it its own disk (which survives a power loss), its own /run (which does not), then reaps for ever.
#   host-init.sh <host's disk folder> <host name> <leaf control group or ->
set -eu
disk=$1 name=$2 leaf=$3

hostname "$name"
if [ "$leaf" != - ]; then
  mkdir -p "$leaf"
  echo 0 >"$leaf/cgroup.procs"
fi

# sysfs shows the network of whoever mounts it; what was mounted below the machine's comes along.
mkdir -p "$disk/sys"
mount --rbind /sys "$disk/sys"
umount -l /sys
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
for sub in fs/cgroup fs/bpf kernel/security kernel/debug kernel/tracing; do
  if mountpoint -q "$disk/sys/$sub"; then mount --rbind "$disk/sys/$sub" "/sys/$sub"; fi
done
umount -l "$disk/sys"

for path in var/lib/docker var/lib/ftctl etc/ftctl etc/docker; do
  mkdir -p "$disk/$path" "/$path"
  mount --bind "$disk/$path" "/$path"
done
# Where checkpoints stand, three times the memory of what is protected: by default half of the machine has room.
mount -t tmpfs -o "mode=755,nosuid,nodev${FTLAB_RUN_SIZE:+,size=$FTLAB_RUN_SIZE}" tmpfs /run
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm
mkdir -p /run/lock /run/netns
# As on a machine started by systemd: containers may be given mounts that propagate.
mount --make-rshared /

: >/run/ftlab-ready
exec tini -- sleep infinity
