# The article goes to stderr, so that pipes stay the command's; -q prints none.
"$TELLTALE" run -o s.tt --horizon 1 -- "$FIXTURES/fixture_leak_ops" --seconds 4 >out 2>err
echo $?
grep -c '^{"fixture": "leak_ops"' out
wc -l <out
grep -q keep_record err && echo "article on stderr"
"$TELLTALE" run -q -o s.tt --horizon 1 -- "$FIXTURES/fixture_leak_ops" --seconds 1 >out 2>err
test ! -s err && echo quiet
