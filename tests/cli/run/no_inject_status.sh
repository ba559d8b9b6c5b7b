# The command's own status, and its own death, with nothing inside it.
"$TELLTALE" run --no-inject -q -o try.tt -- true 2>why || { cat why; exit 77; }
[ -s why ] && { head -n 1 why; exit 77; }
run() {
    "$TELLTALE" run --no-inject -q -o s.tt -- sh -c "$1"
    echo "$? $1"
}
run 'exit 0'
run 'exit 7'
run 'kill -TERM $$'
run 'kill -KILL $$'
run 'trap "exit 9" USR1; kill -USR1 $$; exit 1'
"$TELLTALE" run --no-inject -q -o s.tt -- ./missing
echo $?
