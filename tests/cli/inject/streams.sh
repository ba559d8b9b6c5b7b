# Standard input that is a file is read from its beginning in each run; output is thrown away unless asked for.
printf 'one\ntwo\n' >input
"$TELLTALE" inject -q --calls fopen --report report -- cat <input; echo $?
"$TELLTALE" inject -q --calls fopen --report report --show-output -- cat <input; echo $?
grep -c . report
