# What children count that live only milliseconds is not lost: each calls task() five times and ends at once. The
# parent forks when it sees a jump at the entry of task().
command -v cc >/dev/null || { echo "needs cc"; exit 77; }
command -v sqlite3 >/dev/null || { echo "needs sqlite3"; exit 77; }
cat >p.c <<'END'
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
void *kept;
__attribute__((noinline)) void task(void)
{
    kept = malloc(100);
    free(kept);
}
int main(void)
{
    const volatile unsigned char *entry = (const volatile unsigned char *)task;
    for (time_t end = time(NULL) + 20; *entry != 0xe9;)
        if (time(NULL) > end)
            return 5;
    for (int i = 0; i < 40; i++) {
        if (fork() == 0) {
            for (int k = 0; k < 5; k++)
                task();
            _exit(0);
        }
        if (i % 8 == 7)
            while (wait(NULL) > 0)
                ;
    }
    task();
    return 0;
}
END
cc -O1 -fcf-protection=none -o p p.c || exit 1
"$TELLTALE" run -q -f --operation task=task -o s.tt -- ./p || exit
sqlite3 s.tt "SELECT sum(most) FROM (SELECT max(count) AS most FROM operation_sample s
  JOIN operation o ON o.process = s.process AND o.id = s.operation WHERE o.name = 'task' GROUP BY s.process)"
