cat >script <<'END'
#!/bin/sh
echo "args: $*"
exit 9
END
chmod +x script
"$TELLTALE" run -q -o s.tt -- ./script one 'two three' --four -o five
echo $?
"$TELLTALE" list s.tt >/dev/null && echo readable
