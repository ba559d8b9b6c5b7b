# Refused before the command starts: nobody wants to learn after a day that nothing was recorded.
mkdir dir
for output in no/such/dir/s.tt /proc/s.tt dir; do
    "$TELLTALE" run -q -o "$output" -- echo started
    echo $?
done
