#!/bin/bash
# libftrec.so loads into any container whose C library is glibc 2.31 or newer: it needs no newer symbol version, and what it
# needs of libdl and libpthread is named as needed (they are part of libc from 2.34 on only). It exports no name of its own.
set -u
LIB="${BUILD:-../build}/lib/libftrec.so"
newest="$(objdump -T "$LIB" | grep UND | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)"
[ "$(printf '%s\nGLIBC_2.31\n' "$newest" | sort -V | tail -1)" = GLIBC_2.31 ] || { echo "needs $newest"; exit 1; }
for needed in libdl.so.2 libpthread.so.0 libc.so.6; do
  objdump -p "$LIB" | grep -q "NEEDED *$needed" || { echo "does not name $needed"; exit 1; }
done
strange="$(objdump -T "$LIB" | grep -v UND | grep -E ' (ft|log|crc)_' | head -3)"
[ -z "$strange" ] || { echo "exports $strange"; exit 1; }
echo "newest symbol version needed: $newest"
