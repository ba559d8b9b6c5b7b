#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Configures once and builds; quiet unless something goes wrong.
set -eu
cd "$(dirname "$0")/.."
build=$1 prefix=$2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ ! -f "$build/build.ninja" ]; then
    echo "telltale: configuring $build" >&2
    meson setup "$build" --prefix "$prefix" >"$log" 2>&1 || { tail -n 20 "$log" >&2; exit 3; }
fi
echo "telltale: building" >&2
ninja -C "$build" >"$log" 2>&1 || { grep -v '^\[' "$log" | tail -n 40 >&2; exit 3; }
echo "telltale: built $build/src/cmd/telltale" >&2
