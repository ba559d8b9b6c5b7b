# A request to end goes to the command, which may tidy up; the session is complete.
mkfifo ready
"$TELLTALE" run -q -o s.tt -- sh -c 'trap "echo tidy; exit 5" TERM; echo >ready; while :; do sleep 0.05; done' &
read line <ready
kill -TERM $!
wait $!
echo $?
"$TELLTALE" list s.tt >/dev/null && echo readable
