# A value that makes no sense is refused before the command starts.
try() {
    "$TELLTALE" run -q -o s.tt "$@" -- echo started
    echo "$? $*"
}
try --mode fast
try --horizon soon
try --horizon -5
try -d 0
try --operation request
try --operation =f
try --label owners
try --label =4
test ! -e s.tt && echo "no session"
