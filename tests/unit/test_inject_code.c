/* SPDX-License-Identifier: Apache-2.0 */
/* Attach and detach with a blob that only counts. Start: read_code. */
#include "test_inject_code.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct tt_inject_attach_options options = {.blob = TT_TEST_BLOB};

void read_code(pid_t pid, struct code *out)
{
    static const char *const functions[] = {
        "malloc",        "free",   "calloc",  "realloc",      "memalign",          "posix_memalign",
        "aligned_alloc", "valloc", "pvalloc", "reallocarray", "malloc_usable_size"};
    char path[64];
    out->n = sizeof functions / sizeof functions[0];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    int mem = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(mem >= 0);
    for (size_t i = 0; i < out->n; i++) {
        out->at[i] = (uint64_t)(uintptr_t)dlsym(RTLD_DEFAULT, functions[i]);
        assert_true(out->at[i] != 0);
        assert_int_equal(pread(mem, out->bytes[i], 32, (off_t)out->at[i]), 32);
    }
    close(mem);
}

size_t differences(const struct code *a, const struct code *b)
{
    size_t n = 0;
    for (size_t i = 0; i < a->n; i++)
        n += memcmp(a->bytes[i], b->bytes[i], 32) != 0;
    return n;
}

void expect_code(pid_t pid, const struct code *was)
{
    struct code now;
    read_code(pid, &now);
    assert_int_equal(differences(was, &now), 0);
}

int attach(pid_t pid, struct tt_inject_attached *out)
{
    struct tt_error err = {0};
    int code = tt_inject_attach(pid, &options, out, &err);
    if (code)
        fprintf(stderr, "%s\n", err.text);
    return code;
}

void attach_with(pid_t pid, const struct tt_inject_attach_options *o,
                 struct tt_inject_attached *out)
{
    struct tt_error err = {0};
    if (tt_inject_attach(pid, o, out, &err) != 0)
        fail_msg("%s", err.text);
}

int detach(pid_t pid, struct tt_inject_detached *out)
{
    struct tt_error err = {0};
    int code = tt_inject_detach(pid, false, out, &err);
    if (code)
        fprintf(stderr, "%s\n", err.text);
    return code;
}

uint64_t counted(const struct tt_inject_attached *a, unsigned entry)
{
    uint64_t n = 0;
    assert_int_equal(pread(a->tape_fd, &n, 8, (off_t)(8 * entry)), 8);
    return n;
}

void let_go(struct tt_inject_attached *a)
{
    close(a->tape_fd);
    tt_inject_attached_free(a);
}
