# A value that makes no sense is refused before the command starts.
try() {
    "$TELLTALE" inject -q "$@" -- touch started
    echo "$? $*"
}
try --nth 0
try --nth first
try --calls mallok
try --errors EWHAT
try --budget soon
try --timeout -1
try --depth 65
try --faults none
try --resume
"$TELLTALE" inject -q --calls memory,open
echo "no command $?"
test ! -e started && echo "not started"
