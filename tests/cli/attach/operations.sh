# Operations of a running program of several threads are counted exactly, twice attached to. Each time it waits for the jump
# at the entry of task(), calls it a million times in each of four threads that come and go, and says so.
command -v cc >/dev/null || { echo "needs cc"; exit 77; }
command -v sqlite3 >/dev/null || { echo "needs sqlite3"; exit 77; }
cat >p.c <<'EOF'
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
__attribute__((noinline)) void task(void)
{
    __asm__ volatile("nop; nop; nop; nop; nop; nop; nop; nop" : : : "memory");
}
static void *work(void *arg)
{
    void *block = malloc(100);
    __asm__ volatile("" : : "r"(block) : "memory");
    free(block);
    for (int i = 0; i < 1000000; i++)
        task();
    return arg;
}
static void await(int jump)
{
    const volatile unsigned char *entry = (const volatile unsigned char *)task;
    while ((*entry == 0xe9) != jump)
        usleep(1000);
}
int main(void)
{
    for (int round = 1; round <= 2; round++) {
        pthread_t t[4];
        char name[8];
        await(1);
        for (int i = 0; i < 4; i++)
            pthread_create(&t[i], NULL, work, NULL);
        for (int i = 0; i < 4; i++)
            pthread_join(t[i], NULL);
        snprintf(name, sizeof name, "done%d", round);
        fclose(fopen(name, "w"));
        await(0);
    }
    while (access("stop", F_OK) != 0)
        usleep(1000);
    return 0;
}
EOF
cc -O1 -fcf-protection=none -pthread -o p p.c || exit 1
./p &
target=$!
for round in 1 2; do
    "$TELLTALE" attach -q -p $target --operation task=task -o $round.tt &
    recorder=$!
    while ! test -e done$round; do
        kill -0 $recorder 2>/dev/null || { kill $target; exit 1; }
        sleep 0.1
    done
    kill -INT $recorder
    wait $recorder
    sqlite3 $round.tt "SELECT max(count) FROM operation_sample s
      JOIN operation o ON o.process = s.process AND o.id = s.operation WHERE o.name = 'task'"
done
touch stop
wait $target
echo "target $?"
