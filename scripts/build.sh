#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build.sh DIRECTORY PREFIX [MESON OPTION...]: configures once, and again for another prefix, and builds; quiet
# unless something goes wrong.
set -eu
cd "$(dirname "$0")/.."
build=$1 prefix=$2
shift 2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
configure() {
    echo "telltale: configuring $build" >&2
    "$@" >"$log" 2>&1 || { tail -n 20 "$log" >&2; exit 3; }
}
configured_prefix() {
    python3 -c 'import json, sys
print(*(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))' <"$build/meson-info/intro-buildoptions.json"
}
if [ ! -f "$build/build.ninja" ]; then
    configure meson setup "$build" --prefix "$prefix" "$@"
elif [ "$(configured_prefix)" != "$prefix" ]; then
    configure meson configure "$build" --prefix "$prefix"
fi
echo "telltale: building" >&2
ninja -C "$build" >"$log" 2>&1 || { grep -v '^\[' "$log" | tail -n 40 >&2; exit 3; }
echo "telltale: built $build/src/cmd/telltale" >&2
