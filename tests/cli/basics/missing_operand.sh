for command in run report check list; do
    "$TELLTALE" "$command"
    echo "$command $?"
done
"$TELLTALE" run -q --
echo "run -- $?"
