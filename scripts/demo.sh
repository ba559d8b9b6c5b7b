#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The main job on real input: SIPp places calls, real owner processes share each call, the call server
# leaks as article 310626 says, and telltale finds it from outside. Five servers run side by side:
# as shipped with 4, 3, 2 and 1 owners a call, and the hotfix with 4. The horizon is shortened from 600 s
# to 30 s so that the demo ends in minutes; the article says so.
set -u
cd "$(dirname "$0")/.."
build=$PWD/$1
telltale=$build/src/cmd/telltale
call=$build/cases/call
calls=${DEMO_CALLS:-1000} rate=${DEMO_RATE:-40} horizon=${DEMO_HORIZON:-30}
out=${DEMO_OUT:-$build/demo}
rm -rf "$out"
mkdir -p "$out"
say() { echo "demo: $*" >&2; }

declare -A pids
place() { # NAME SERVER OWNERS CALLS
    "$call/callload" --owners "$3" --calls "$4" --rate "$rate" --settle $((horizon + 4)) \
        --truth "$out/$1.json" -- "$telltale" run -q -o "$out/$1.tt" --horizon "$horizon" \
        --operation call=call_new --label owners="$3" -- "$call/$2" \
        >"$out/$1.log" 2>&1 &
    pids[$1]=$!
}
stop() { kill "${pids[@]}" 2>/dev/null; exit 130; }
trap stop INT TERM

say "five call servers; $calls calls with 4 owners on the shipped and on the fixed one, 500 with 3, 2 and 1 owners;" \
    "a unit counts as retained after $horizon s"
place leaky4 tapisrv 4 "$calls"
place leaky3 tapisrv 3 500
place leaky2 tapisrv 2 500
place leaky1 tapisrv 1 500
place hotfix4 tapisrv-hotfix 4 "$calls"
started=$SECONDS
while running=$(jobs -rp | wc -l); [ "$running" -gt 0 ]; do
    if [ -t 2 ]; then
        printf '\rdemo: %3d s, %d of 5 servers at work ' $((SECONDS - started)) "$running" >&2
    elif [ $(((SECONDS - started) % 15)) -eq 0 ]; then
        say "$((SECONDS - started)) s, $running of 5 servers at work"
    fi
    sleep 1
done
[ ! -t 2 ] || printf '\n' >&2
for name in leaky4 leaky3 leaky2 leaky1 hotfix4; do
    wait "${pids[$name]}" || {
        say "the load on $name failed:"
        tail -n 15 "$out/$name.log" >&2
        exit 3
    }
done

"$telltale" report "$out/leaky4.tt" --control "$out/leaky3.tt" --control "$out/leaky2.tt" --control "$out/leaky1.tt" \
    --fixed "$out/hotfix4.tt" | tee "$out/article.txt" || exit 3
"$telltale" report "$out/leaky4.tt" --control "$out/leaky3.tt" --control "$out/leaky2.tt" --control "$out/leaky1.tt" \
    --fixed "$out/hotfix4.tt" --json -o "$out/article.json" || exit 3
echo
exec python3 scripts/demo_check.py "$telltale" "$out"
