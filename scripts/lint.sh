#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# clang-format and clang-tidy over the tree, and a second compiler: what CI may run beside the tests.
set -eu
cd "$(dirname "$0")/.."
build=$1
git ls-files 'src/*.[ch]' 'cases/*.[ch]' 'tests/*.[ch]' 'include/*.h' 'bench/*.c' | xargs clang-format --dry-run --Werror
CC=clang CXX=clang++ scripts/build.sh "$build-clang" /usr/local
git ls-files 'src/*.c' 'cases/*.c' ':!*.bpf.c' | xargs -n 1 -P "$(nproc)" clang-tidy -p "$build-clang" --quiet 2>/dev/null
echo "lint clean"
