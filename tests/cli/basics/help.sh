# The list of commands, on stdout, for --help, -h and help alike.
"$TELLTALE" --help
"$TELLTALE" -h >again
"$TELLTALE" help | cmp - again
