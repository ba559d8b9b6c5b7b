# The disk that holds the session fills up: the command must not notice, and one line must say so.
[ "$(id -u)" -eq 0 ] || { echo "needs root to mount a small tmpfs"; exit 77; }
mkdir small
unshare -m mount -t tmpfs -o size=64k none small 2>/dev/null || { echo "may not mount"; exit 77; }
unshare -m sh -c 'mount -t tmpfs -o size=64k none small &&
    head -c 40k /dev/zero >small/ballast &&
    "$TELLTALE" run -q -o small/s.tt -- "$FIXTURES/fixture_leak_ops" --seconds 2 >truth'
echo $?
grep -c '"operations": 400' truth
