# A program without any library, which makes its system calls itself: seen from the kernel, with its stacks.
command -v gcc >/dev/null || { echo "needs gcc"; exit 77; }
command -v sqlite3 >/dev/null || { echo "needs sqlite3"; exit 77; }
"$TELLTALE" run --no-inject -q -o try.tt -- true 2>why || { cat why; exit 77; }
[ -s why ] && { head -n 1 why; exit 77; }
cat >p.c <<'END'
static long call(long nr, long a, long b, long c)
{
    long ret;
    __asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return ret;
}
__attribute__((noinline)) int lost(void) { return (int)call(2, (long)"/dev/null", 0, 0); }
__attribute__((noinline)) int kept(void) { return (int)call(2, (long)"/dev/zero", 0, 0); }
int _start(void)
{
    for (int i = 0; i < 300; i++) {
        int fd = kept();
        call(3, fd, 0, 0);
        if (i % 3 == 0)
            lost();
    }
    call(231, 4, 0, 0);
    for (;;)
        ;
}
END
gcc -O1 -g -fno-inline -fasynchronous-unwind-tables -nostdlib -static p.c -o raw || exit 77
"$TELLTALE" run --no-inject -q -o s.tt -- ./raw
echo $?
"$TELLTALE" report s.tt >/dev/null
sqlite3 s.tt "SELECT y.function, s.resource, max(n.births), max(n.deaths), max(n.births) - max(n.deaths) = (SELECT sum(count) FROM survivor v
    WHERE v.site = s.id) FROM site s JOIN site_sample n ON n.site = s.id JOIN stack t ON t.id = s.stack
    JOIN symbol y ON y.function IN ('lost', 'kept') AND hex(t.frames) LIKE '%' || printf('%02X%02X%02X', y.address & 255,
    y.address >> 8 & 255, y.address >> 16 & 255) || '%' GROUP BY s.id ORDER BY 1"
