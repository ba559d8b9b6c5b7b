"$TELLTALE" run --mode; echo $?
"$TELLTALE" check --horizon; echo $?
