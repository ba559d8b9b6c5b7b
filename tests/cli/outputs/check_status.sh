"$TELLTALE" check --horizon 1 "$SHARED/leak.tt" | grep -o 'keep_record' | head -n 1
"$TELLTALE" check --horizon 1 "$SHARED/leak.tt" >/dev/null; echo $?
"$TELLTALE" check --horizon 1 "$SHARED/clean.tt"; echo $?
