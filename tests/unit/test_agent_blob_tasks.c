/* SPDX-License-Identifier: Apache-2.0 */
/* Threads and children of a process that the blob is in: threads that are older than a recording,
 * forked children and their tapes, and filters after which there are none.
 * Start: children_have_tapes. */
#include "test_agent_blob_host.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_barrier_t barrier;
static void *works(void *arg)
{
    (void)arg;
    for (int round = 0; round < 3; round++) {
        pthread_barrier_wait(&barrier);
        for (int i = 0; i < 1000; i++)
            drop(make((uint64_t)i + 1));
        pthread_barrier_wait(&barrier);
    }
    forget_thread(); /* glibc keeps the block, and the next test has another blob */
    return NULL;
}

static void threads_outlive_a_recording(void **state)
{
    (void)state;
    pthread_t thread[3];
    pthread_barrier_init(&barrier, NULL, 4);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, works, NULL), 0);
    for (int round = 0; round < 3; round++) {
        uint32_t mode = round == 1 ? TT_MODE_SAMPLED : TT_MODE_EXACT;
        assert_int_equal(start_with(mode, 4096), 0);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        if (mode == TT_MODE_EXACT)
            expect(3000, 3000);
        assert_int_equal(count().live, 0);
        assert_true(count().births > 0);
        assert_int_equal(order(TT_BLOB_PASS), 0);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
}

/* How many mappings of tapes this process has, by what stands in their name. */
static unsigned tapes_by_name(const char *name)
{
    char line[512];
    unsigned n = 0;
    FILE *f = fopen("/proc/self/maps", "re");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        n += strstr(line, name) != NULL && strstr(line, " 00000000 ") != NULL;
    fclose(f);
    return n;
}

/* What a forked child that allocates says about tapes of that name in its mappings. */
static unsigned child_has(const char *dir, const char *name)
{
    char path[100];
    pid_t child = fork();
    if (child == 0) {
        unmap_tape();
        drop(make(100));
        _exit((int)tapes_by_name(name));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    snprintf(path, sizeof path, "%s/tape.%d.0", dir, (int)child);
    unlink(path);
    return (unsigned)WEXITSTATUS(status);
}

static void children_have_tapes(void **state)
{
    (void)state;
    char dir[] = "/tmp/test_agent_blob.XXXXXX";
    assert_non_null(mkdtemp(dir));
    strcpy(blob->call.conf.dir, dir);
    blob->call.conf.follow = 1;
    assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
    unsigned others = tapes_by_name("/memfd:telltale") - 2; /* but the agent's and our look at it */
    assert_int_equal(child_has(dir, dir), 1);
    assert_int_equal(child_has(dir, "/memfd:telltale"), others);
    /* where its path does not open, a memory file */
    strcpy(blob->call.conf.dir, "/nonexistent");
    assert_int_equal(order(TT_BLOB_PASS), 0);
    assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
    assert_int_equal(child_has(dir, "/memfd:telltale"), others + 1);
    /* not followed, and after the end: no tape, and nothing in the parent's */
    blob->call.conf.follow = 0;
    assert_int_equal(order(TT_BLOB_PASS), 0);
    assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
    assert_int_equal(child_has(dir, "/memfd:telltale"), others);
    expect(0, 0);
    assert_int_equal(order(TT_BLOB_PASS), 0);
    child_has(dir, "/memfd:telltale");
    expect(0, 0);
    assert_int_equal(rmdir(dir), 0);
}

static uint64_t watched(uint64_t a, uint64_t b, uint64_t c)
{
    return a + b + c;
}

/* After a filter the agent opens nothing: a child gets no tape. */
static void filters_are_seen(void **state)
{
    (void)state;
    union {
        uint8_t *at;
        tt_real_fn *fn;
    } prctl_entry = {image + blob->entry_prctl}, syscall_entry = {image + blob->entry_syscall};
    blob->call.real_prctl = blob->call.real_syscall = watched;
    blob->call.conf.follow = 1;
    assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
    unsigned others = tapes_by_name("/memfd:telltale") - 2;
    assert_int_equal(prctl_entry.fn(21, 2, 3), 26);
    assert_int_equal(syscall_entry.fn(22, 2, 3), 27);
    assert_int_equal(child_has("", "/memfd:telltale"), others + 1);
    assert_int_equal(syscall_entry.fn(317, 1, 0), 318);
    assert_int_equal(child_has("", "/memfd:telltale"), others);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(filters_are_seen, fresh, away),
        cmocka_unit_test_setup_teardown(threads_outlive_a_recording, fresh, away),
        cmocka_unit_test_setup_teardown(children_have_tapes, fresh, away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
