# Declared handles without anything inside the process: by probes, from the first call on.
command -v gcc >/dev/null || { echo "needs gcc"; exit 77; }
command -v sqlite3 >/dev/null || { echo "needs sqlite3"; exit 77; }
"$TELLTALE" run --no-inject -q -o try.tt -- true 2>why || { cat why; exit 77; }
[ -s why ] && { head -n 1 why; exit 77; }
cat >p.c <<'END'
static int next = 3;
__attribute__((noinline)) int acquire(void) { __asm__ volatile(""); return next++; }
__attribute__((noinline)) int acquire_at(long *out) { *out = next + (1L << 40); return next++ % 5 ? 0 : -1; }
__attribute__((noinline)) int release(int n) { __asm__ volatile("" : : "r"(n)); return 0; }
__attribute__((noinline)) void lose(void) { acquire(); __asm__ volatile(""); }
int main(void)
{
    long at;
    for (int i = 0; i < 100; i++) {
        release(acquire());
        if (i % 4 == 0)
            lose();
        acquire_at(&at);
    }
    return 6;
}
END
gcc -O2 -g p.c -o p || exit 77
"$TELLTALE" run --no-inject -q -o s.tt --handle slot=acquire:ret,release:arg1 --handle 'wide=acquire_at:*arg1' -- ./p
echo $?
sqlite3 s.tt "SELECT resource, sum(b), sum(d) FROM (SELECT s.resource, max(n.births) b, max(n.deaths) d FROM site s
    JOIN site_sample n ON n.site = s.id WHERE s.resource IN ('slot', 'wide') GROUP BY s.id) GROUP BY 1"
