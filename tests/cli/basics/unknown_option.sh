# Wrong usage is 2, never 1: gates read 1 as "a leak was found".
for command in run attach report check list snapshot core switch detach inject; do
    "$TELLTALE" "$command" --frobnicate x.tt
    echo "$command $?"
done
"$TELLTALE" run -q -Z -- true; echo $?
