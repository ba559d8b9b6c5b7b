# The command's own status, and its own death.
run() {
    "$TELLTALE" run -q -o s.tt -- sh -c "$1"
    echo "$? $1"
}
run 'exit 0'
run 'exit 1'
run 'exit 7'
run 'exit 255'
run 'kill -TERM $$'
run 'kill -KILL $$'
