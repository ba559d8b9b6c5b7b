# Another C library: the agent, made for glibc, must stay out.
command -v musl-gcc >/dev/null || { echo "needs musl-tools"; exit 77; }
printf '#include <stdio.h>\n#include <stdlib.h>\nint main(void) { free(malloc(10)); puts("worked"); return 4; }\n' >p.c
musl-gcc p.c -o musl 2>/dev/null || { echo "musl-gcc does not work"; exit 77; }
"$TELLTALE" run -q -o s.tt -- ./musl
echo $?
