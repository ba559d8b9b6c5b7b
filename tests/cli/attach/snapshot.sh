# One snapshot of a process that leaked: what is lost is counted, and the process goes on.
"$FIXTURES/fixture_old_leaks" --seconds 5 >truth &
target=$!
until grep -qs ready truth; do sleep 0.02; done
"$TELLTALE" snapshot -q -p $target -o s.tt; echo "snapshot $?"
command -v sqlite3 >/dev/null || { kill $target; echo "needs sqlite3"; exit 77; }
lost=$(sqlite3 s.tt 'select lost_units from snapshot')
test "$lost" -ge 11880 && test "$lost" -le 14000 && echo "as many as were lost"
sqlite3 s.tt 'select source, old_units = lost_units from snapshot; select count(*) from process'
"$TELLTALE" check s.tt >/dev/null; echo "check $?"
wait $target; echo "target $?"
