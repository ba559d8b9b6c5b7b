# What stands at -o and is no plain file (a pipe, a device, a link) is written to and stays what it is.
mkfifo pipe
timeout 20 cat pipe >got &
timeout 20 "$TELLTALE" report "$SHARED/clean.tt" -o pipe
echo $?
wait
"$TELLTALE" report "$SHARED/clean.tt" | cmp - got && [ -p pipe ] && echo still a pipe
ln -s far near
echo old >far
"$TELLTALE" report "$SHARED/clean.tt" -o near
cmp far got && [ -L near ] && echo still a link
