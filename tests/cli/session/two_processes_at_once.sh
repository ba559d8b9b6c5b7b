# Readers do not change a session, and a session being written can be read.
mkfifo ready
cp "$SHARED/good.tt" s.tt
chmod a-w s.tt
"$TELLTALE" list s.tt >/dev/null; echo $?
cmp s.tt "$SHARED/good.tt" && echo unchanged
"$TELLTALE" run -q -o live.tt -- sh -c 'echo >ready; while [ ! -e done ]; do sleep 0.05; done' &
read line <ready
"$TELLTALE" list live.tt >/dev/null 2>err; test $? -le 3 && echo "no crash"
: >done
wait $!
echo $?
