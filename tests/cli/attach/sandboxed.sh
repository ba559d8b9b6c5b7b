# A program that installs a filter which ends it for what only an allocator with more memory to manage would call lives
# under the agent, whether it is started or attached to; what it allocates from then on may be lost to the recording.
command -v cc >/dev/null || { echo "needs cc"; exit 77; }
cat >p.c <<'EOP'
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#define KEPT 20000
static void *kept[KEPT];
static __attribute__((noinline)) void *deep(int n)
{
    void *p = n ? deep(n - 1) : malloc(40);
    __asm__ volatile("" : "+r"(p));
    return p;
}
static int install(int how)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return 1;
    return how ? (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)
               : prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
int main(int argc, char **argv)
{
    void *(*volatile allocate)(size_t) = malloc;
    kept[0] = deep(1);
    free(malloc(100));
    while (argc > 2 && *(const volatile unsigned char *)allocate != 0xe9)
        usleep(1000); /* until an attach has put its jump there */
    if (install(strcmp(argv[1], "seccomp") == 0))
        return 3;
    for (int i = 1; i < KEPT; i++)
        kept[i] = deep(i % 40);
    for (int i = 0; i < KEPT; i++)
        free(kept[i]);
    return write(1, "lives\n", 6) == 6 ? 0 : 4;
}
EOP
cc -O1 -fno-optimize-sibling-calls -o p p.c || exit 1
for how in prctl seccomp; do
    for mode in exact sampled; do
        "$TELLTALE" run -q --mode $mode -o s.tt -- ./p $how
        echo "run, $mode, $how: $?"
    done
done
for mode in exact sampled; do
    ./p prctl wait &
    target=$!
    "$TELLTALE" attach -q -p $target --mode $mode -o a.tt &
    wait $target
    echo "attach, $mode: $?"
    wait
done
