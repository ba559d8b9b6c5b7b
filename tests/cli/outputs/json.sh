# Everything that takes --json prints one JSON value and nothing else.
for command in report check list; do
    for session in leak clean; do
        "$TELLTALE" "$command" --json "$SHARED/$session.tt" >out 2>err
        status=$?
        python3 -m json.tool out >/dev/null && echo "$command $session $status $(wc -c <err)"
    done
done
"$TELLTALE" report --format json "$SHARED/leak.tt" >a
"$TELLTALE" report --json "$SHARED/leak.tt" | cmp - a && echo "--json is --format json"
"$TELLTALE" run -q -o s.tt --json --report out -- echo hello; python3 -m json.tool out >/dev/null && echo "run too"
