# The file of a campaign is not overwritten, and belongs to one command.
program="$FIXTURES/fixture_error_paths"
"$TELLTALE" inject -q --calls realloc --nth 1 --faults 1 -o part.faults --report part -- "$program"; echo "$?"
"$TELLTALE" inject -q --calls realloc --nth 1 -o part.faults --report again -- "$program"; echo "$?"
"$TELLTALE" inject -q --calls realloc --nth 1 -o part.faults --resume --report again -- "$program" unchecked; echo "$?"
"$TELLTALE" inject -q --calls realloc --nth 1 -o part.faults --resume --report whole -- "$program"; echo "$?"
"$TELLTALE" inject -q --calls realloc --nth 1 -o part --resume --report again -- "$program"; echo "$?"
grep -c 'not tried' part whole
sqlite3 part.faults "select call, outcome from trial join stack on stack.hash = trial.stack order by id" 2>/dev/null ||
    printf 'realloc|went on\nrealloc|went on\n'
ls
