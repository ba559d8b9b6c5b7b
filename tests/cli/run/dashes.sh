# Options end at the command's name, with or without the two dashes.
"$TELLTALE" run -q -o s.tt -- echo -n -q --mode; echo
"$TELLTALE" run -q -o s.tt echo -n -q --mode; echo
