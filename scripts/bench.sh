#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# All benchmarks against the peers, as ratios in one run; see docs/performance.md.
set -eu
cd "$(dirname "$0")/.."
TELLTALE=$PWD/$1/src/cmd/telltale exec bench/run.sh "$PWD/$1"
