"$TELLTALE" frobnicate; echo $?
"$TELLTALE" --frobnicate; echo $?
