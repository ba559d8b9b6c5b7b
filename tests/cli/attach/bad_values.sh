# A value that makes no sense is refused before anything is touched.
try() {
    "$TELLTALE" attach -q -o s.tt "$@"
    echo "$? $*"
}
try -p soon
try -p 0
try -p -5
try -p 1 -p 1
try -p 1 --mode fast
try -p 1 --snapshots often
try -p 1 --pause-budget none
try -p 1 --snapshot-every never
try -p 1 -d 0
try -p 1 ./server
"$TELLTALE" snapshot -p 1 -p 2; echo $?
"$TELLTALE" switch -p 1 --mode slow; echo $?
"$TELLTALE" switch -p 1; echo $?
"$TELLTALE" detach -p 1 -p 2; echo $?
"$TELLTALE" core a b; echo $?
test ! -e s.tt && echo "no session"
