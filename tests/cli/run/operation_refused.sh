# An operation that cannot be counted is said while it runs, once, and again in the article; a shell on the way to the
# program is not asked.
"$TELLTALE" run -q -o s.tt --operation call=no_such_function --operation op=fx_next -- \
    sh -c "exec $FIXTURES/fixture_leak_ops --seconds 2" >truth
echo $?
"$TELLTALE" run -q -f -o t.tt --operation gone=absent -- "$FIXTURES/fixture_fork_workers" --seconds 2 >truth
echo $?
