"$TELLTALE" report --horizon 1 --format text "$SHARED/leak.tt" >text; echo $?
"$TELLTALE" report --horizon 1 "$SHARED/leak.tt" | cmp - text && echo "text is the default"
"$TELLTALE" report --horizon 1 --format markdown "$SHARED/leak.tt" | grep -c '^# '
grep -q keep_record text && grep -q leak_ops.c text && echo "names the place"
"$TELLTALE" report --horizon 1 -o file.txt "$SHARED/leak.tt" && cmp file.txt text && echo "-o file"
"$TELLTALE" report --horizon 1 -o - "$SHARED/leak.tt" | cmp - text && echo "-o -"
"$TELLTALE" report --format carrier-pigeon "$SHARED/leak.tt"; echo $?
"$TELLTALE" report -o no/such/dir/file.txt "$SHARED/leak.tt"; echo $?
