#!/bin/sh
# Installs the Debian packages that are missing, by what is missing: a machine that has everything needs no network.
set -eu
cd "$(dirname "$0")/.."

fail() {
  echo "deps: $1" >&2
  exit 1
}

[ "$(id -u)" = 0 ] || fail "run as root: namespaces, Docker and CRIU need it"
command -v node >/dev/null || fail "Node.js 20 or later is missing"
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || fail "Node.js $(node -v) is older than 20"
command -v npm >/dev/null || fail "npm is missing"
command -v apt-get >/dev/null || fail "this is not Debian"

missing=
# need <program or file> <package>
need() {
  case $1 in
  /*) [ -e "$1" ] || missing="$missing $2" ;;
  *) PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null || missing="$missing $2" ;;
  esac
}
need dockerd docker.io
# Debian 13 has the command line apart.
if apt-cache show docker-cli >/dev/null 2>&1; then need docker docker-cli; else need docker docker.io; fi
need tini tini
need ip iproute2
need nsenter util-linux
need mountpoint util-linux
need setsid util-linux
need mount mount
need hostname hostname
need ldconfig libc-bin
need gcc gcc
need make make
need /usr/include/stdio.h libc6-dev
need /usr/include/openssl/ssl.h libssl-dev
need /usr/include/lz4.h liblz4-dev
need /usr/include/zstd.h libzstd-dev
need /usr/include/linux/if_tun.h linux-libc-dev
need /etc/ssl/certs/ca-certificates.crt ca-certificates
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] ||
  need /usr/share/keyrings/debian-archive-keyring.pgp debian-archive-keyring

# Packages for the toolkit and for images come from the mirrors of these lists.
listed() { apt-get indextargets --format '$(ORIGIN) $(COMPONENT)' 'Created-By: Packages' | grep -qx 'Debian main'; }

export DEBIAN_FRONTEND=noninteractive
apt() { apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null; }
if [ -n "$missing" ] || ! listed; then
  # A third-party source that fails must not stop us; a missing package will.
  apt update || echo "deps: some package lists could not be fetched; going on" >&2
fi
listed || fail "no mirror of Debian's main component among the machine's package sources"
if [ -n "$missing" ]; then
  echo "deps: installing$missing"
  # Options that keep answers to configuration questions at their defaults.
  # shellcheck disable=SC2086 # one word a package
  apt --no-install-recommends -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install $missing
fi
