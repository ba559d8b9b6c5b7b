# A handle that is not understood is one line and status 2; one whose functions are not there is said, and the command runs.
for handle in port 'port=' 'port=f' 'port=f:arg9' 'port=f:ret,limit=many' '=f:ret'; do
    "$TELLTALE" run -q -o x.tt --handle "$handle" -- true 2>said
    echo "$? $(wc -l < said)"
done
printf '# none of these is understood\nport=f:ret\nnonsense\n' > handles
"$TELLTALE" run -q -o x.tt --handles handles -- true 2>said; echo "$? $(grep -c 'handles:3: ' said)"
"$TELLTALE" run -q -o x.tt --resources fd,frog -- true 2>said; echo "$? $(grep -c 'no resource kind "frog"' said)"
test ! -e x.tt && echo "nothing recorded"
"$TELLTALE" run -q -o y.tt --resources none --handle 'port=no_such_acquire:ret,no_such_release:arg1' -- sh -c 'sleep 1.5; echo ran'
# What repeats a recording has the options that it was made with, those of a file too.
printf 'port=no_such_release:arg1 # of ours\n' > handles
"$TELLTALE" run -q -o z.tt --resources fd,-socket --snapshots off --handle 'port=no_such_acquire:ret,limit=9' --handles handles -- true 2>said
"$TELLTALE" report --format json z.tt | grep -o 'telltale run -o z[^"]*'
