# Each command says in one line that the process is not there; status 3, no session.
sh -c 'exit 0' & gone=$!
wait $gone
for command in attach snapshot; do
    "$TELLTALE" $command -q -p $gone -o s.tt
    echo "$command $?"
done
for command in "switch --mode exact" detach; do
    "$TELLTALE" $command -p $gone
    echo "$command $?"
done
test ! -e s.tt && echo "no session"
