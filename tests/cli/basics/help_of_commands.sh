# Each command explains itself without doing anything, whatever else is on its line.
for command in run attach report check list snapshot core switch detach inject; do
    "$TELLTALE" "$command" --help >"$command"
    echo "$command $?"
    head -n 1 "$command"
    grep -c '^EXAMPLES$' "$command"
done
