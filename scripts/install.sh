#!/bin/sh
# Installs ftctl on this host from a built checkout: `make install`. Again is an upgrade; what runs goes on running.
#   PREFIX    where the command goes           (default /usr/local)
#   DESTDIR   in front of every path, for packagers and tests
set -eu
cd "$(dirname "$0")/.."
prefix=${PREFIX:-/usr/local} dest=${DESTDIR:-}
home=$prefix/lib/ftctl
unit=/etc/systemd/system/ftctl-agent.service

[ -f dist/orchestrator/cli/main.js ] && [ -d build/bin ] || {
  echo "install: not built yet; run: make install" >&2
  exit 1
}

# Beside the old one, then in its place: a command started meanwhile finds one or the other.
new=$dest$home.new
rm -rf "$new"
mkdir -p "$new/build" "$new/criu" "$new/policies" "$new/bin"
cp -a dist package.json package-lock.json .npmrc node_modules "$new/"
cp -a build/bin build/lib "$new/build/"
cp -a criu/toolkit.json "$new/criu/"
cp -a policies/*.yaml "$new/policies/"
cp -a bin/ftctl "$new/bin/"
rm -rf "$new/dist/e2e"
npm prune --prefix "$new" --omit=dev --offline --no-audit --no-fund --loglevel=error >/dev/null
rm -rf "$dest$home.old"
[ ! -e "$dest$home" ] || mv "$dest$home" "$dest$home.old"
mv "$new" "$dest$home"
rm -rf "$dest$home.old"

mkdir -p "$dest$prefix/bin" "$dest/etc/systemd/system" "$dest/etc/ftctl" "$dest/var/lib/ftctl"
chmod 700 "$dest/var/lib/ftctl"
ln -sf "$home/bin/ftctl" "$dest$prefix/bin/ftctl"
sed "s|^ExecStart=/usr/local/|ExecStart=$prefix/|" systemd/ftctl-agent.service >"$dest$unit"
mkdir -p "$dest/etc/sysctl.d"
cp systemd/60-ftctl.conf "$dest/etc/sysctl.d/60-ftctl.conf"
if [ -z "$dest" ]; then sysctl -q -p /etc/sysctl.d/60-ftctl.conf 2>/dev/null || echo "install: this kernel has no TCP hash per namespace; pauses are a little longer"; fi
[ -e "$dest/var/lib/ftctl/toolkit/manifest.json" ] || cp -a build/toolkit "$dest/var/lib/ftctl/toolkit"
node "$dest$home/dist/criu/toolkit-main.js" "$dest/var/lib/ftctl/toolkit"
if [ -z "$dest" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

echo "installed: $prefix/bin/ftctl, $home, $unit"
echo "next: ftctl init (first host) or ftctl join (the others), then: systemctl enable --now ftctl-agent"
