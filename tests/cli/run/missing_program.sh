"$TELLTALE" run -q -o s.tt -- ./no-such-program; echo $?
"$TELLTALE" run -q -o s.tt -- no-such-program-in-path; echo $?
