# Each command explains itself without doing anything, whatever else is on its line.
for command in run report check list; do
    "$TELLTALE" "$command" --help >"$command"
    echo "$command $?"
    head -n 1 "$command"
    grep -c '^EXAMPLES$' "$command"
done
