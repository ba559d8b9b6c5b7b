for command in run attach report check list snapshot core switch detach inject; do
    "$TELLTALE" "$command"
    echo "$command $?"
done
"$TELLTALE" run -q --
echo "run -- $?"
