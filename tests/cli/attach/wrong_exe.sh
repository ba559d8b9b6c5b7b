# Another program than the one that dumped core is refused; the right one, and none, are taken.
command -v gcore >/dev/null || { echo "needs gcore (gdb)"; exit 77; }
cp "$(command -v sleep)" moved
sleep 1000 &
target=$!
until test "$(readlink /proc/$target/exe)" = "$(readlink -f "$(command -v sleep)")"; do
    sleep 0.01
done
gcore -o core $target >/dev/null 2>&1 || { echo "no core"; exit 1; }
kill $target
"$TELLTALE" core -q -o wrong.tt --exe "$TELLTALE" core.$target 2>err
echo "another program: $?"
grep -c 'is not the program that dumped .*build-id' err
"$TELLTALE" core -q -o right.tt --exe moved core.$target >/dev/null
echo "the same, moved: $?"
"$TELLTALE" core -q -o none.tt core.$target >/dev/null
echo "none named: $?"
