#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The RPC case on a live client: a program that calls OpenCluster and CloseCluster runs out of the ports
# that rpcssd grants, as article 814622 says, and telltale finds it from outside by two functions of the
# client's runtime. Eleven clients run side by side: one as shipped until it hangs, four with other shares
# of failing calls, one for each other class of failure, and the hotfix under more of the same load. A
# port cools for 0.3 s instead of 240 s, and the horizon is shortened from 600 s to 5 s, so that the demo
# ends in a minute; the article says so.
set -u
cd "$(dirname "$0")/.."
build=$PWD/$1
telltale=$build/src/cmd/telltale
rpc=$build/cases/rpc
horizon=${DEMO_HORIZON:-5} port=${DEMO_PORT:-5000}
out=${DEMO_OUT:-$build/demo-rpc}
rm -rf "$out"
mkdir -p "$out"
say() { echo "demo: $*" >&2; }

declare -A pids
client() { # NAME CLIENT FAILING-SHARE LOAD...
    local name=$1 program=$2 share=$3
    shift 3
    "$rpc/rpcload" --recycle 300 --settle $((horizon + 2)) --ports "$port-$((port + 99))" \
        --truth "$out/$name.json" "$@" -- "$telltale" run -q -o "$out/$name.tt" --horizon "$horizon" \
        --operation OpenCluster=OpenCluster --label failure="$share" \
        --handle "port grant in rpcssd=port_acquire:ret,port_release:arg1,limit=100" -- "$rpc/$program" \
        >"$out/$name.log" 2>&1 &
    pids[$name]=$!
    port=$((port + 100))
}
stop() { kill "${pids[@]}" 2>/dev/null; exit 130; }
trap stop INT TERM

say "eleven clients of the datagram RPC runtime; rpcssd may grant 100 ports to each; a port counts as lost after $horizon s"
client hang clusclient 0.5 --until-hang --hang-ms $((horizon * 1000 + 2000)) --cycles 1 --f1 1 --pause 150
client third clusclient 0.333333 --cycles 120 --f1 60 --pause 60
client quarter clusclient 0.25 --cycles 180 --f1 60 --pause 40
client fifth clusclient 0.2 --cycles 240 --f1 60 --pause 30
client none clusclient 0 --cycles 60 --pause 120
for class in 2 3 4 5 6; do
    client "class$class" clusclient 0.5 --cycles 50 --pause 150 --f$class 50
done
client hotfix clusclient-hotfix 0.5 --cycles 450 --f1 450 --pause 25
started=$SECONDS
while running=$(jobs -rp | wc -l); [ "$running" -gt 0 ]; do
    if [ -t 2 ]; then
        printf '\rdemo: %3d s, %d of 11 clients at work ' $((SECONDS - started)) "$running" >&2
    elif [ $(((SECONDS - started) % 15)) -eq 0 ]; then
        say "$((SECONDS - started)) s, $running of 11 clients at work"
    fi
    sleep 1
done
[ ! -t 2 ] || printf '\n' >&2
for name in "${!pids[@]}"; do
    wait "${pids[$name]}" || {
        say "the load on $name failed:"
        tail -n 15 "$out/$name.log" >&2
        exit 3
    }
done
grep -h 'hangs' "$out/hang.log" | sed 's/^rpcload/demo/' >&2

article() {
    "$telltale" report "$out/hang.tt" --control "$out/third.tt" --control "$out/quarter.tt" --control "$out/fifth.tt" \
        --control "$out/none.tt" --fixed "$out/hotfix.tt" "$@"
}
article | tee "$out/article.txt" || exit 3
article --json -o "$out/article.json" || exit 3
echo
exec python3 scripts/demo_rpc_check.py "$telltale" "$out"
