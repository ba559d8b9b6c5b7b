#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Packs what `make install` would install into a .deb, without debhelper: the tree is small. Built like the
# tests' build, so that what was tested is what is packed, and stripped; what the binaries need is read from them.
set -eu
cd "$(dirname "$0")/.."
build=$1
scripts/build.sh "$build-deb" /usr --libdir lib -Dwerror=false
version=$(meson introspect "$build-deb" --projectinfo | python3 -c 'import json, sys; print(json.load(sys.stdin)["version"])')
arch=$(dpkg --print-architecture)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
root=$scratch/root
DESTDIR=$root meson install -C "$build-deb" --no-rebuild --strip >/dev/null
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions" # where Debian's zsh looks
mkdir -p "$root/DEBIAN" "$root/usr/share/doc/telltale" "$scratch/debian"
install -m 644 LICENSE "$root/usr/share/doc/telltale/copyright"
: >"$scratch/debian/control" # dpkg-shlibdeps insists on one
depends=$(cd "$scratch" && dpkg-shlibdeps -O "root/usr/bin/telltale" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
cat >"$root/DEBIAN/control" <<CONTROL
Package: telltale
Version: $version
Architecture: $arch
Maintainer: telltale maintainers <telltale@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Section: devel
Priority: optional
Depends: $depends
Recommends: libdebuginfod1
Description: writes the knowledge-base article about a server's leak
 Records a running server at low cost and reports what leaks, at which call
 stack, per which operation and by what law, with its evidence and confidence.
CONTROL
out="telltale_${version}_${arch}.deb"
dpkg-deb --root-owner-group --build "$root" "$out" >/dev/null
echo "$out"
