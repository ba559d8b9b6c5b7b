# No dynamic loader, no agent: said in one line, and the command is not held up by it.
command -v gcc >/dev/null || { echo "needs gcc"; exit 77; }
printf '#include <stdio.h>\nint main(void) { puts("worked"); return 4; }\n' >p.c
gcc -static p.c -o static 2>/dev/null || { echo "no static libc"; exit 77; }
"$TELLTALE" run -q -o s.tt -- ./static
echo $?
