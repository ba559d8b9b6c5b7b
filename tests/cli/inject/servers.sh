# A program that does not end needs a load.
"$TELLTALE" inject -q --timeout 1 -- sleep 1000
