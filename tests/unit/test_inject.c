/* SPDX-License-Identifier: Apache-2.0 */
/* The inject room: relocation on known encodings, and counting the entries of functions of a child
 * whose threads call them all the time. Start: main's table. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "inject/inject.h"
#include "inject/internal.h"

static int moves(const char *bytes, size_t n, uint64_t to, uint8_t *out, size_t *len, size_t *taken)
{
    const char *why;
    return tt_relocate((const uint8_t *)bytes, n, 0x1000, to, out, len, taken, NULL, &why);
}

static void plain_prologues_move_unchanged(void **state)
{
    (void)state;
    uint8_t out[TT_RELOCATE_MAX];
    size_t len, taken;
    /* push r12; push rbp; push rbx; mov rbx, rdi (glibc malloc) */
    const char a[] = "\x41\x54\x55\x53\x48\x89\xfb\x90";
    assert_int_equal(moves(a, 8, 0x9000, out, &len, &taken), 0);
    assert_int_equal(taken, 7);
    assert_memory_equal(out, a, 7);
    /* endbr64; sub rsp, 8 */
    const char b[] = "\xf3\x0f\x1e\xfa\x48\x83\xec\x08";
    assert_int_equal(moves(b, 8, 0x9000, out, &len, &taken), 0);
    assert_int_equal(taken, 8);
    /* mov rax, fs:0x28 */
    const char c[] = "\x64\x48\x8b\x04\x25\x28\x00\x00\x00";
    assert_int_equal(moves(c, 9, 0x9000, out, &len, &taken), 0);
    assert_int_equal(taken, 9);
}

static void addresses_are_aimed_again(void **state)
{
    (void)state;
    uint8_t out[TT_RELOCATE_MAX];
    size_t len, taken;
    int32_t disp;
    /* cmp byte [rip+0x100], 0 : target 0x1000 + 7 + 0x100 */
    assert_int_equal(moves("\x80\x3d\x00\x01\x00\x00\x00", 7, 0x9000, out, &len, &taken), 0);
    memcpy(&disp, out + 2, 4);
    assert_int_equal(0x9000 + 7 + disp, 0x1107);
    /* test rdi,rdi; je +0x20 (short) becomes a near je to the same place */
    assert_int_equal(moves("\x48\x85\xff\x74\x20", 5, 0x9000, out, &len, &taken), 0);
    assert_int_equal(len, 9);
    assert_int_equal(out[3], 0x0f);
    assert_int_equal(out[4], 0x84);
    memcpy(&disp, out + 5, 4);
    assert_int_equal(0x9000 + 9 + disp, 0x1025);
    assert_int_equal(moves("\x80\x3d\x00\x01\x00\x00\x00", 7, 0x900000000, out, &len, &taken),
                     -ERANGE);
    /* push rax; call +0x10: pushes what it returns to, 0x1006, and jumps to 0x1016 */
    static const uint8_t called[] = {0x50, 0x68, 0x06, 0x10, 0, 0, 0xc7, 0x44,
                                     0x24, 0x04, 0,    0,    0, 0, 0xe9};
    assert_int_equal(moves("\x50\xe8\x10\x00\x00\x00", 6, 0x9000, out, &len, &taken), 0);
    assert_int_equal(len, 19);
    assert_int_equal(taken, 6);
    assert_memory_equal(out, called, sizeof called);
    memcpy(&disp, out + 15, 4);
    assert_int_equal(0x9000 + 19 + disp, 0x1016);
}

static void what_is_not_understood_is_refused(void **state)
{
    (void)state;
    uint8_t out[TT_RELOCATE_MAX];
    size_t len, taken;
    assert_int_equal(moves("\x31\xc0\xc3\x90\x90", 5, 0x9000, out, &len, &taken),
                     -EOPNOTSUPP); /* ret */
    assert_int_equal(moves("\xc5\xf8\x77\x90\x90", 5, 0x9000, out, &len, &taken),
                     -EOPNOTSUPP); /* vex */
    assert_int_equal(moves("\x31\xc0\xeb\xfc\x90", 5, 0x9000, out, &len, &taken), 0 - EOPNOTSUPP);
    assert_int_equal(moves("\x48\x89", 2, 0x9000, out, &len, &taken), -EOPNOTSUPP);
    /* xor eax,eax; L: add rax,[rdi]; dec rsi; jne L */
    const uint8_t loop[] = {0x31, 0xc0, 0x48, 0x03, 0x07, 0x48, 0xff, 0xce, 0x75, 0xf8, 0xc3};
    assert_true(tt_relocate_is_target(loop, sizeof loop, 0x1000, 5));
    assert_false(tt_relocate_is_target(loop, sizeof loop, 0x1000, 2));
}

/* Random bytes neither crash the decoder nor make it read past the end. */
static void hostile_bytes_are_harmless(void **state)
{
    (void)state;
    uint8_t out[TT_RELOCATE_MAX];
    size_t len, taken;
    const char *why;
    srand(1);
    for (int i = 0; i < 200000; i++) {
        uint8_t *code = malloc(12);
        for (int k = 0; k < 12; k++)
            code[k] = (uint8_t)rand();
        size_t n = (size_t)(rand() % 12) + 1;
        if (tt_relocate(code + 12 - n, n, 0x1000, 0x2000, out, &len, &taken, NULL, &why) == 0) {
            assert_true(taken <= n);
            assert_true(len <= TT_RELOCATE_MAX);
        }
        free(code);
    }
}

/* ---- a child that works ---- */

/* Functions with one copy and the entry that a server's would have, in a sanitized test too. */
#define PLAIN noinline, no_sanitize("address"), no_sanitize("undefined")
#if defined(__clang__) /* makes no clones and does not know the word */
#define COUNTED __attribute__((PLAIN))
#else
#define COUNTED __attribute__((PLAIN, noclone))
#endif

struct shared {
    uint64_t counter[2];
    uint64_t pad, pad_size;
    uint64_t sum;
    volatile uint64_t phase; /* 1 run freely; 2 done */
    pthread_barrier_t barrier;
};

static COUNTED uint64_t work_add(uint64_t *p, uint64_t n)
{
    uint64_t s = 0;
    for (uint64_t i = 0; i < n; i++)
        s += p[i & 7] ^ n;
    *p = s;
    return s;
}

static COUNTED uint64_t work_mix(uint64_t *p, uint64_t n)
{
    p[n & 7] = (p[n & 7] ^ n) * 0x9e3779b97f4a7c15ULL + work_add(p, n & 3);
    return p[n & 7] >> 7;
}
static void work_end(void)
{
}

static struct shared *shared;

static void *busy(void *arg)
{
    uint64_t p[8] = {(uint64_t)(uintptr_t)arg};
    uint64_t s = 0;
    while (shared->phase == 1)
        s += work_mix(p, s & 15);
    pthread_barrier_wait(&shared->barrier); /* all threads quiet */
    pthread_barrier_wait(&shared->barrier); /* the parent has noted the counters */
    for (uint64_t i = 0; i < 50000; i++)
        s += work_mix(p, i);
    __atomic_fetch_add(&shared->sum, s, __ATOMIC_RELAXED);
    pthread_barrier_wait(&shared->barrier);
    return NULL;
}

static void child(int ready)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves no worker behind */
    for (uint64_t near = ((uint64_t)(uintptr_t)work_mix & ~0xfffffULL) - (1ULL << 28);;
         near += 1 << 20) {
        void *p = mmap((void *)near, 65536, PROT_READ | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (p == (void *)near) {
            shared->pad = near;
            shared->pad_size = 65536;
            break;
        }
    }
    pthread_t t[4];
    for (size_t i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, busy, (void *)(i + 1));
    (void)!write(ready, "r", 1);
    for (size_t i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    _exit(7);
}

static void entries_are_counted_exactly(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    pthread_barrierattr_t attr;
    pthread_barrierattr_init(&attr);
    pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&shared->barrier, &attr, 5);
    shared->phase = 1;
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0)
        child(ready[1]);
    char c;
    assert_int_equal(read(ready[0], &c, 1), 1);

    struct tt_inject_pad pad = {shared->pad, shared->pad_size, 0};
    uint64_t add_size = (uint64_t)(uintptr_t)work_mix - (uint64_t)(uintptr_t)work_add;
    uint64_t mix_size = (uint64_t)(uintptr_t)work_end - (uint64_t)(uintptr_t)work_mix;
    struct tt_inject_entry e[2] = {
        {.function = (uint64_t)(uintptr_t)work_mix,
         .size = mix_size,
         .counter = (uint64_t)(uintptr_t)&shared->counter[0]},
        {.function = (uint64_t)(uintptr_t)work_add,
         .size = add_size,
         .counter = (uint64_t)(uintptr_t)&shared->counter[1]},
    };
    struct tt_error err = {0};
    int left[2] = {1, 1};
    for (int tries = 0; tries < 1000 && (left[0] || left[1]); tries++)
        for (int i = 0; i < 2; i++) {
            if (!left[i])
                continue;
            int r = tt_inject_count(pid, &pad, 1, NULL, &e[i], 1, NULL, &err);
            if (r == -EPERM) {
                kill(pid, SIGKILL);
                waitpid(pid, NULL, 0);
                skip(); /* a container without ptrace */
            }
            assert_int_equal(r, 0);
            assert_true(e[i].result == 0 || e[i].result == -EAGAIN);
            left[i] = e[i].result != 0;
        }
    assert_false(left[0] || left[1]);
    shared->phase = 2;
    pthread_barrier_wait(&shared->barrier);
    uint64_t before[2] = {shared->counter[0], shared->counter[1]};
    pthread_barrier_wait(&shared->barrier);
    pthread_barrier_wait(&shared->barrier);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    assert_int_equal(shared->counter[0] - before[0], 200000);
    assert_int_equal(shared->counter[1] - before[1], 200000);
}

static void an_absent_process_is_said_to_be(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    struct tt_error err = {0};
    struct tt_stopped stopped;
    assert_int_equal(tt_inject_stop(pid, &stopped, &err), -ESRCH);
    assert_non_null(strstr(err.text, "cannot stop process"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_prologues_move_unchanged),
        cmocka_unit_test(addresses_are_aimed_again),
        cmocka_unit_test(what_is_not_understood_is_refused),
        cmocka_unit_test(hostile_bytes_are_harmless),
        cmocka_unit_test(entries_are_counted_exactly),
        cmocka_unit_test(an_absent_process_is_said_to_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
