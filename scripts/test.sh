#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs every suite, shows each test as it ends, and closes with "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/.."
build=$1
meson test -C "$build" --no-rebuild --print-errorlogs
exec python3 scripts/count_tests.py "$build/meson-logs/testlog.json"
