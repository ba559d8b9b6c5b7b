# A line for each leak and status 1; or status 0.
"$TELLTALE" check --horizon 1 "$SHARED/leak.tt"; echo $?
"$TELLTALE" check --horizon 1 "$SHARED/clean.tt"; echo $?
