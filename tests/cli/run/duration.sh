# -d ends the recording, not the command.
"$TELLTALE" run -q -d 1 -o s.tt -- "$FIXTURES/fixture_leak_ops" --seconds 3 >truth
echo $?
grep -c '"operations": 600' truth
"$TELLTALE" list s.tt >/dev/null && echo readable
