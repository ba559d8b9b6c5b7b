# A session is an ordinary database: the shell reads it, and the figures agree with the truth.
command -v sqlite3 >/dev/null || { echo "needs sqlite3"; exit 77; }
sqlite3 "$SHARED/leak.tt" 'pragma integrity_check; pragma user_version'
sqlite3 "$SHARED/leak.tt" "select value from meta where key = 'mode'; select key, value from label"
live=$(sqlite3 "$SHARED/leak.tt" 'select count from survivor where size = 40' | awk '{n += $1} END {print n}')
grep -q "\"live\": $live," "$SHARED/leak.truth" && echo "as many survivors as the program kept"
calls=$(sqlite3 "$SHARED/leak.tt" "select max(count) from operation_sample o join operation on operation = id where name = 'request'")
truth=$(sed 's/.*"operations": \([0-9]*\).*/\1/' "$SHARED/leak.truth")
# Counting starts when the entry is patched, a moment after the start.
test "$calls" -le "$truth" && test "$calls" -ge $((truth * 95 / 100)) && echo "as many operations as it served, but for the first moment"
