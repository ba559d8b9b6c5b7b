#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds everything but the agent with AddressSanitizer and UndefinedBehaviorSanitizer and runs the suites of
# rooms, statistics, hostile bytes, the command line and the cases. The agent is preloaded into programs
# that were built without sanitizers, so it is taken from the ordinary build, and the fixtures are never
# sanitized (tests/fixtures/meson.build). The search of a heap runs in threads: its tests run with
# ThreadSanitizer, too.
set -eu
cd "$(dirname "$0")/.."
build=$1
sanitized=$build-asan

# What lies outside src/agent, as Ninja names it.
targets() {
    meson introspect "$sanitized" --targets | python3 -c '
import json, os, sys
top = os.path.realpath(sys.argv[1])
for target in json.load(sys.stdin):
    names = [os.path.relpath(name, top) for name in target["filename"]]
    print(*(n for n in names if not n.startswith("src/agent/")), sep="\n")' "$sanitized"
}
# A sanitizer that has something to say ends its program, and so fails the test.
run() {
    meson test -C "$sanitized" --no-rebuild --print-errorlogs --num-processes 1 --timeout-multiplier 3 "$@"
}
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
# Tests ask for too much memory on purpose; and the handler that reads a heap where it faults (src/heap/pager.c)
# is too deep, once instrumented, for the small stack that ASan gives signal handlers.
may=allocator_may_return_null=1:use_sigaltstack=0

echo "telltale: building with sanitizers" >&2
[ -f "$sanitized/build.ninja" ] || meson setup "$sanitized" -Db_sanitize=address,undefined -Db_lundef=false >/dev/null
ninja -C "$sanitized" build.ninja >/dev/null # the list of targets is as old as that
targets | xargs ninja -C "$sanitized" >/dev/null
mkdir -p "$sanitized/src/agent"
cp "$build"/src/agent/libtelltale-*.so "$build"/src/agent/*.blob "$sanitized/src/agent/" # where telltale looks for it
# A test of the command line preloads a library of its own.
ASAN_OPTIONS=$may:verify_asan_link_order=0 run --suite unit --suite sim --suite fuzz --suite cli
# The servers of the cases leak on purpose; call-leak preloads a counting malloc and rpc-leak makes malloc fail: left out.
ASAN_OPTIONS=$may:detect_leaks=0 run call-sip call-api call-load rpc-codec rpc-server rpc-client rpc-wire

echo "telltale: building the threaded room with ThreadSanitizer" >&2
threads=$build-tsan
[ -f "$threads/build.ninja" ] || meson setup "$threads" -Db_sanitize=thread -Db_lundef=false >/dev/null
searches="heap_roots heap_mark heap_group heap_attribute heap_retain agent_row agent_maps"
for test in $searches; do echo "tests/unit/test_$test"; done | xargs ninja -C "$threads" >/dev/null
# Without randomized addresses: some kernels place more than the sanitizer of gcc 12 can bear.
# shellcheck disable=SC2086
meson test -C "$threads" --no-rebuild --print-errorlogs --timeout-multiplier 5 \
    --wrapper "setarch $(uname -m) -R" $searches

echo "sanitizers clean"
