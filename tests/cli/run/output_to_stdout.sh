# A session is a database and cannot be streamed; standard output is the command's anyway.
"$TELLTALE" run -q -o - -- echo started
