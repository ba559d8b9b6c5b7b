"$TELLTALE" --version
"$TELLTALE" -V
