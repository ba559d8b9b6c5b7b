# Input, output and errors belong to the command.
seq 1 200000 >in
"$TELLTALE" run -q -o s.tt -- cat <in | cmp - in && echo "same output"
"$TELLTALE" run -q -o s.tt -- sh -c 'echo to stderr >&2; echo to stdout'
seq 1 200000 | "$TELLTALE" run -q -o s.tt -- head -n 1
"$TELLTALE" run -q -o s.tt -- sh -c 'read line || echo "no input"' <&-
