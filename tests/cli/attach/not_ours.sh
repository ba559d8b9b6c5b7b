# A process of another user: cause and remedy in one line, the process untouched.
test "$(id -u)" = 0 || { echo "needs root to become another user"; exit 77; }
command -v setpriv >/dev/null || { echo "needs setpriv"; exit 77; }
chmod 777 .
# Copies, since the build may lie where that user must not look, root's home for example.
cp "$TELLTALE" telltale
for directory in agent lib/telltale lib/x86_64-linux-gnu/telltale; do
    blob=$(dirname "$TELLTALE")/../$directory/telltale-agent.blob
    test -r "$blob" && cp "$blob" .
done
export TELLTALE_LIB="$PWD"
sleep 60 &
target=$!
for command in attach snapshot detach; do
    setpriv --reuid=65534 --regid=65534 --clear-groups ./telltale $command -p $target $(test $command = detach || echo -q -o s.tt)
    echo "$command $?"
done
kill -0 $target && echo "alive"
kill $target
