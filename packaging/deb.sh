#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Packs what `make install` would install into a .deb beside the build, without debhelper: the tree is
# small and its run-time dependencies are read from the binary itself.
set -eu
cd "$(dirname "$0")/.."
build=$1
version=$(sed -n "s/^ *version: '\([^']*\)'.*/\1/p" meson.build | head -n 1)
arch=$(dpkg --print-architecture)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
[ -f "$build-deb/build.ninja" ] || meson setup "$build-deb" --prefix /usr --libdir lib --buildtype release >/dev/null
ninja -C "$build-deb" >/dev/null
DESTDIR=$root meson install -C "$build-deb" --no-rebuild >/dev/null
depends=$(ldd "$root/usr/bin/telltale" | sed -n 's/.*=> \([^ ]*\) .*/\1/p' | while read -r lib; do
    dpkg -S "$(basename "$lib")" 2>/dev/null | grep -E '(^|[^-])lib[^ ]*:'"$arch" | grep -v -- '-dev' | head -n 1 | cut -d: -f1
done | sort -u | paste -sd, | sed 's/,/, /g')
mkdir -p "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<CONTROL
Package: telltale
Version: $version
Architecture: $arch
Maintainer: telltale maintainers <telltale@localhost>
Section: devel
Priority: optional
Depends: $depends
Description: writes the knowledge-base article about a server's leak
 Records a running server at low cost and reports what leaks, at which call
 stack, per which operation and by what law, with its evidence and confidence.
CONTROL
out="telltale_${version}_${arch}.deb"
dpkg-deb --root-owner-group --build "$root" "$out" >/dev/null
echo "$out"
