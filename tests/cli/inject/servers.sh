# A program that does not end needs a load.
"$TELLTALE" inject -q --timeout 1 -- sleep 1000
# One that ends before it has waited for anybody was not tried.
"$TELLTALE" inject --load true -- sh -c 'exit 7'
