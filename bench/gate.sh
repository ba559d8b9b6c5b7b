#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Instructions that a malloc/free pair costs more under telltale, held against bench/gate.json: gate.sh BUILD [--update].
# Unlike time, a count is the same on a busy machine, so continuous integration can insist on it.
set -eu
build=$1
shift
exec python3 "$(dirname "$0")/gate.py" --telltale "$build/src/cmd/telltale" --pairloop "$build/bench/pairloop" "$@"
