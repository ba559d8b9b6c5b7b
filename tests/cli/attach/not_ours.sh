# A process of another user: cause and remedy in one line, the process untouched.
test "$(id -u)" = 0 || { echo "needs root to become another user"; exit 77; }
command -v setpriv >/dev/null || { echo "needs setpriv"; exit 77; }
chmod 777 .
sleep 60 &
target=$!
for command in attach snapshot detach; do
    setpriv --reuid=65534 --regid=65534 --clear-groups "$TELLTALE" $command -p $target $(test $command = detach || echo -q -o s.tt)
    echo "$command $?"
done
kill -0 $target && echo "alive"
kill $target
