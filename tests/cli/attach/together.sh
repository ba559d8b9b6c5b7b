# Attached by pid, left after -d; quiet; the article goes where --report says; the process lives on.
"$FIXTURES/fixture_leak_ops" --seconds 20 >truth &
target=$!
"$TELLTALE" attach -q -p $target -d 2 -o %p.tt --report findings.json --json --label site=here
echo "attach $?"
test -e $target.tt && echo "named after the pid"
grep -o '"schema": *"telltale.findings/1"' findings.json
grep -c '"keep_record"' findings.json >/dev/null && echo "found the site"
kill -0 $target && echo "alive"
wait $target; echo "target $?"
grep -c '"operations": 4000' truth
