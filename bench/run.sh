#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# All benchmarks: run.sh BUILD [bench.py's options]. The figures go to BUILD/bench-results.json;
# `bench/table.py BUILD/bench-results.json docs/performance.md` puts them into the page.
set -eu
build=$1
shift
exec python3 "$(dirname "$0")/bench.py" --telltale "$build/src/cmd/telltale" --programs "$build/bench" \
    --output "$build/bench-results.json" "$@"
