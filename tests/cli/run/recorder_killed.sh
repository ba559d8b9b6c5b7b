# The recorder is killed with SIGKILL: the command goes on to its own end, and what was saved is readable.
mkfifo ready gate
"$TELLTALE" run -q -o s.tt -- sh -c 'echo >ready; read line <gate; echo went on; : >done' &
read line <ready
kill -KILL $!
wait $!
echo $?
echo >gate
while [ ! -e done ]; do sleep 0.05; done
"$TELLTALE" list s.tt >list 2>&1; test $? -le 3 && echo "no crash"
