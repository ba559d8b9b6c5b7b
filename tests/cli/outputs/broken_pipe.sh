# A reader that goes away is no reason to complain.
"$TELLTALE" report --horizon 1 "$SHARED/leak.tt" | true
"$TELLTALE" list "$SHARED/leak.tt" | true
"$TELLTALE" report --horizon 1 "$SHARED/leak.tt" >/dev/full; echo $?
