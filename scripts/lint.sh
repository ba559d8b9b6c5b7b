#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# clang-format and clang-tidy over the tree, and a second compiler: what CI may run beside the tests.
set -eu
cd "$(dirname "$0")/.."
build=$1
git ls-files 'src/*.[ch]' 'cases/*.[ch]' 'tests/*.[ch]' 'include/*.h' 'bench/*.c' | xargs clang-format --dry-run --Werror
[ -f "$build-clang/build.ninja" ] || CC=clang CXX=clang++ meson setup "$build-clang" >/dev/null
ninja -C "$build-clang" >/dev/null
git ls-files 'src/*.c' | xargs -n 8 clang-tidy -p "$build-clang" --quiet
echo "lint clean"
