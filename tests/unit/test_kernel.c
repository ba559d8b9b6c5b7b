/* SPDX-License-Identifier: Apache-2.0 */
/* src/kernel without a kernel's help: a tape written from outside, mappings as intervals, and a
 * real child's stack unwound from a copy of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/internal.h"

/* ---- the tape ---- */

static void make(struct tt_kernel_tape *tape)
{
    int fd = -1;
    assert_int_equal(tt_kernel_tape_make(tape, getpid(), &fd), 0);
    assert_int_equal(tape->head->magic, TT_TAPE_MAGIC);
    close(fd);
}

static void same_stack_same_site(void **state)
{
    struct tt_kernel_tape tape;
    const uint64_t a[] = {1, 2, 3}, b[] = {1, 2, 4};
    (void)state;
    make(&tape);
    uint32_t site = tt_kernel_tape_site(&tape, TT_KIND_FD, a, 3, false);
    assert_int_not_equal(site, 0);
    assert_int_equal(tt_kernel_tape_site(&tape, TT_KIND_FD, a, 3, false), site);
    assert_int_not_equal(tt_kernel_tape_site(&tape, TT_KIND_FD, b, 3, false), site);
    assert_int_not_equal(tt_kernel_tape_site(&tape, TT_KIND_SOCKET, a, 3, false), site);
    assert_int_equal(tape.site[site].depth, 3);
    assert_int_equal(tape.site[site].kind, TT_KIND_FD);
    assert_int_equal(tape.head->site_count, 4);
    tt_kernel_tape_free(&tape);
}

/* More units than a bucket holds, of spaces that meet in the same ones. */
static void held_units_are_found_again(void **state)
{
    struct tt_kernel_tape tape;
    const uint64_t maps = 3000, fds = 2000, base = 0x7f0000000000;
    (void)state;
    make(&tape);
    uint32_t site = tt_kernel_tape_site(&tape, TT_KIND_MAPPING, NULL, 0, true), lost = 0;
    for (uint64_t i = 0; i < maps; i++)
        lost += !tt_kernel_tape_put(&tape, TT_SPACE_MAPPING, base + i * 4096, site, 5, i);
    for (uint64_t i = 0; i < fds; i++)
        lost += !tt_kernel_tape_put(&tape, TT_SPACE_FD, i, site, 6, 1);
    assert_int_equal(lost, 0);
    assert_int_equal(tape.head->dropped[TT_DROP_HELD], 0);
    for (uint64_t i = 0; i < fds; i += 2)
        tt_kernel_tape_take(tt_kernel_tape_find(&tape, TT_SPACE_FD, i));
    for (uint64_t i = 0; i < maps; i++) {
        const struct tt_tape_held *held =
            tt_kernel_tape_find(&tape, TT_SPACE_MAPPING, base + i * 4096);
        assert_non_null(held);
        assert_int_equal(held->size, i);
        assert_int_equal(tt_tape_entry_tick(held->entry), 5);
    }
    for (uint64_t i = 0; i < fds; i++)
        assert_int_equal(tt_kernel_tape_find(&tape, TT_SPACE_FD, i) != NULL, i % 2);
    tt_kernel_tape_free(&tape);
}

/* ---- intervals ---- */

static uint64_t deaths(const struct tt_tape_site *site)
{
    uint64_t n = site->early_deaths;
    for (unsigned bin = 1; bin < TT_TAPE_BINS; bin++)
        n += site->deaths[bin];
    return n;
}

/* ---- calls that are told in another order ---- */

static struct tt_kernel caller;

static void call(struct tt_kernel_image *image, uint32_t what, uint32_t kind, uint32_t tid,
                 uint64_t value, uint64_t began, uint64_t told)
{
    const struct tt_kernel_event e = {.what = what,
                                      .kind = kind,
                                      .site = 1,
                                      .tid = tid,
                                      .value = {value, began, told, UINT64_MAX}};
    if (what == TT_KERNEL_ACQUIRE)
        tt_kernel_call_acquired(&caller, image, &e);
    else
        tt_kernel_call_released(image, &e);
}

static void expect_units(const struct tt_kernel_image *image, uint64_t births, uint64_t gone)
{
    const struct tt_tape_site *site = &image->tape.site[caller.local[1]];
    uint64_t live = 0;
    assert_int_equal(site->births, births);
    assert_int_equal(deaths(site), gone);
    for (uint32_t i = 0; i < TT_TAPE_HELD; i++)
        live += (image->tape.held[i].state & TT_HELD_MASK) == TT_HELD_LIVE;
    assert_int_equal(live, births - gone);
}

static void threads_detach_before_they_are_told(void **state)
{
    struct tt_kernel_image image = {0};
    const uint32_t kind = TT_KERNEL_JOINED;
    (void)state;
    make(&image.tape);
    caller.local[1] = tt_kernel_tape_site(&image.tape, TT_KIND_THREAD, NULL, 0, true);
    call(&image, TT_KERNEL_RELEASE, kind, 2, 70, 15, 16);
    call(&image, TT_KERNEL_ACQUIRE, kind, 1, 70, 10, 20);
    expect_units(&image, 1, 1);
    /* one that was there before us says nothing about the next of its place */
    call(&image, TT_KERNEL_RELEASE, kind, 2, 80, 25, 26);
    call(&image, TT_KERNEL_ACQUIRE, kind, 1, 80, 30, 40);
    expect_units(&image, 2, 1);
    call(&image, TT_KERNEL_RELEASE, kind, 1, 80, 50, 60);
    expect_units(&image, 2, 2);
    tt_kernel_tape_free(&image.tape);
}

static void joins_are_told_after_the_next_thread(void **state)
{
    struct tt_kernel_image image = {0};
    const uint32_t kind = TT_KERNEL_JOINED;
    (void)state;
    make(&image.tape);
    caller.local[1] = tt_kernel_tape_site(&image.tape, TT_KIND_THREAD, NULL, 0, true);
    call(&image, TT_KERNEL_ACQUIRE, kind, 1, 70, 10, 20);
    call(&image, TT_KERNEL_ACQUIRE, kind, 2, 70, 32, 40); /* the place of the one joined */
    call(&image, TT_KERNEL_RELEASE, kind, 1, 70, 30, 50);
    expect_units(&image, 2, 1);
    call(&image, TT_KERNEL_RELEASE, kind, 1, 70, 60, 70);
    expect_units(&image, 2, 2);
    /* gone by a way that nobody told: its release never comes, and the next one is the new one's */
    call(&image, TT_KERNEL_ACQUIRE, kind, 1, 70, 80, 85);
    call(&image, TT_KERNEL_ACQUIRE, kind, 1, 70, 90, 95);
    call(&image, TT_KERNEL_RELEASE, kind, 1, 70, 100, 110);
    expect_units(&image, 4, 4);
    tt_kernel_tape_free(&image.tape);
}

static void calls_within_a_call_count_once(void **state)
{
    struct tt_kernel_image image = {0};
    (void)state;
    make(&image.tape);
    caller.local[1] = tt_kernel_tape_site(&image.tape, TT_KIND_STREAM, NULL, 0, true);
    call(&image, TT_KERNEL_ACQUIRE, TT_KERNEL_STREAM, 1, 70, 15, 18); /* fdopen */
    call(&image, TT_KERNEL_ACQUIRE, TT_KERNEL_STREAM, 1, 70, 10, 20); /* in tmpfile */
    expect_units(&image, 1, 0);
    call(&image, TT_KERNEL_RELEASE, TT_KERNEL_STREAM, 1, 70, 30, 30);
    expect_units(&image, 1, 1);
    tt_kernel_tape_free(&image.tape);
}

static void handles_of_libraries_count_up(void **state)
{
    struct tt_kernel_image image = {0};
    (void)state;
    make(&image.tape);
    caller.local[1] = tt_kernel_tape_site(&image.tape, TT_KIND_LIBRARY, NULL, 0, true);
    for (uint64_t i = 0; i < 3; i++)
        call(&image, TT_KERNEL_ACQUIRE, TT_KERNEL_LIBRARY, 1, 0x7000, 10 * i, 10 * i + 5);
    expect_units(&image, 3, 0);
    for (uint64_t i = 0; i < 3; i++) {
        call(&image, TT_KERNEL_RELEASE, TT_KERNEL_LIBRARY, 1, 0x7000, 100 + i, 100 + i);
        expect_units(&image, 3, i + 1);
    }
    assert_int_equal(image.tape.head->dropped[TT_DROP_NOT_HELD], 0);
    tt_kernel_tape_free(&image.tape);
}

static void expect_spans(const struct tt_kernel_image *image, const uint64_t (*spans)[2], size_t n)
{
    uint64_t bytes = 0;
    assert_int_equal(image->spans.len, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(image->spans.data[i].start, spans[i][0]);
        assert_int_equal(image->spans.data[i].end, spans[i][1]);
        const struct tt_tape_held *held =
            tt_kernel_tape_find(&image->tape, TT_SPACE_MAPPING, spans[i][0]);
        assert_non_null(held);
        assert_int_equal(held->size, spans[i][1] - spans[i][0]);
        bytes += held->size;
    }
    /* what the site counts is what is there */
    const struct tt_tape_site *site = &image->tape.site[1];
    assert_int_equal(site->births - deaths(site), n);
    assert_int_equal(site->birth_bytes - site->death_bytes, bytes);
}

static void add(struct tt_kernel_image *image, uint64_t start, uint64_t end, uint32_t site,
                uint32_t tick, bool over)
{
    const struct tt_kernel_span span = {.start = start, .end = end, .site = site, .tick = tick};
    tt_kernel_spans_add(image, &span, over);
}

/* Another thread's munmap is told after the mapping that took its place. */
static void late_munmaps_take_nothing(void **state)
{
    struct tt_kernel_image image = {0};
    (void)state;
    make(&image.tape);
    uint32_t site = tt_kernel_tape_site(&image.tape, TT_KIND_MAPPING, NULL, 0, true);
    add(&image, 0x10000, 0x14000, site, 1, true);
    add(&image, 0x11000, 0x13000, site, 2, false);
    tt_kernel_spans_cut(&image, 0x10000, 0x14000, 2);
    expect_spans(&image, (const uint64_t[][2]){{0x11000, 0x13000}}, 1);
    assert_int_equal(image.owed.len, 0);
    /* two that are late, told in one another's order */
    add(&image, 0x11000, 0x13000, site, 3, false);
    add(&image, 0x12000, 0x13000, site, 3, false);
    tt_kernel_spans_cut(&image, 0x11000, 0x13000, 3);
    tt_kernel_spans_cut(&image, 0x11000, 0x13000, 3);
    expect_spans(&image, (const uint64_t[][2]){{0x12000, 0x13000}}, 1);
    tt_kernel_spans_cut(&image, 0x12000, 0x13000, 3);
    expect_spans(&image, NULL, 0);
    /* one that is never told is forgotten */
    add(&image, 0x10000, 0x12000, site, 4, false);
    add(&image, 0x10000, 0x12000, site, 4, false);
    tt_kernel_spans_cut(&image, 0x10000, 0x12000, 4 + 10 * TT_TAPE_TICKS_PER_SECOND);
    expect_spans(&image, NULL, 0);
    tt_vec_free(&image.spans);
    tt_vec_free(&image.owed);
    tt_kernel_tape_free(&image.tape);
}

static void mappings_keep_their_account(void **state)
{
    struct tt_kernel_image image = {0};
    (void)state;
    make(&image.tape);
    uint32_t site = tt_kernel_tape_site(&image.tape, TT_KIND_MAPPING, NULL, 0, true);
    const struct tt_kernel_span as = {.site = site, .tick = 20};
    assert_int_equal(site, 1);
    add(&image, 0x10000, 0x20000, site, 1, true);
    add(&image, 0x30000, 0x40000, site, 1, true);
    expect_spans(&image, (const uint64_t[][2]){{0x10000, 0x20000}, {0x30000, 0x40000}}, 2);
    /* start, end, and the middle of one */
    tt_kernel_spans_cut(&image, 0x0f000, 0x11000, 9);
    tt_kernel_spans_cut(&image, 0x1f000, 0x21000, 9);
    expect_spans(&image, (const uint64_t[][2]){{0x11000, 0x1f000}, {0x30000, 0x40000}}, 2);
    tt_kernel_spans_cut(&image, 0x15000, 0x16000, 9);
    expect_spans(&image,
                 (const uint64_t[][2]){{0x11000, 0x15000}, {0x16000, 0x1f000}, {0x30000, 0x40000}},
                 3);
    /* over several, of which one stays in part; and where nothing is */
    tt_kernel_spans_cut(&image, 0x14000, 0x31000, 9);
    tt_kernel_spans_cut(&image, 0x50000, 0x60000, 9);
    expect_spans(&image, (const uint64_t[][2]){{0x11000, 0x14000}, {0x31000, 0x40000}}, 2);
    /* a fixed mapping covers what was there */
    add(&image, 0x13000, 0x32000, site, 9, true);
    expect_spans(&image,
                 (const uint64_t[][2]){{0x11000, 0x13000}, {0x13000, 0x32000}, {0x32000, 0x40000}},
                 3);
    /* moved and grown; keeps its birth */
    tt_kernel_spans_move(&image, (const uint64_t[]){0x80000, 0x83000},
                         (const uint64_t[]){0x11000, 0x13000}, &as);
    expect_spans(&image,
                 (const uint64_t[][2]){{0x13000, 0x32000}, {0x32000, 0x40000}, {0x80000, 0x83000}},
                 3);
    assert_int_equal(image.spans.data[2].tick, 1);
    /* shrunk in place */
    tt_kernel_spans_move(&image, (const uint64_t[]){0x80000, 0x81000},
                         (const uint64_t[]){0x80000, 0x83000}, &as);
    expect_spans(&image,
                 (const uint64_t[][2]){{0x13000, 0x32000}, {0x32000, 0x40000}, {0x80000, 0x81000}},
                 3);
    /* the heap grows */
    assert_true(tt_kernel_spans_grow(&image, 0x81000, 0x85000));
    assert_false(tt_kernel_spans_grow(&image, 0x90000, 0x95000));
    expect_spans(&image,
                 (const uint64_t[][2]){{0x13000, 0x32000}, {0x32000, 0x40000}, {0x80000, 0x85000}},
                 3);
    tt_kernel_spans_cut(&image, 0, UINT64_MAX, 30);
    expect_spans(&image, NULL, 0);
    tt_vec_free(&image.spans);
    tt_kernel_tape_free(&image.tape);
}

/* ---- stacks ---- */

static volatile int kept;

static __attribute__((noinline)) void innermost(int ready, int wait)
{
    char byte = 'r';
    kept += (int)write(ready, &byte, 1);
    kept += (int)read(wait, &byte, 1); /* here it is looked at */
    kept++;
}
static __attribute__((noinline)) void middle(int ready, int wait, size_t room)
{
    volatile char *on_stack = __builtin_alloca(room); /* a frame that only its pointer finds */
    on_stack[0] = 1;
    innermost(ready, wait);
    kept += on_stack[0];
}
static __attribute__((noinline)) void outer(int ready, int wait, size_t room)
{
    middle(ready, wait, room);
    kept++;
}

static bool within(uint64_t pc, void (*function)(void))
{
    return pc > (uint64_t)(uintptr_t)function && pc < (uint64_t)(uintptr_t)function + 160;
}

struct seen {
    struct tt_kernel_frames frames;
    struct tt_kernel_words words;
    uint64_t sp;
};

/* The same with another address where that of the second caller stands, as when its return is
 * probed. */
static void look_again(struct tt_kernel_unwind *unwind, struct tt_kernel_stopped stopped,
                       uint8_t *copy, const struct seen *seen)
{
    struct tt_kernel_return returns[TT_KERNEL_RETURNS] = {{0}};
    static struct seen again; /* no part of the stack that is looked at */
    uint64_t place = seen->sp, word = 0;
    while (word != seen->frames.pc[2]) {
        place += 8;
        assert_true(place - stopped.base + 8 <= stopped.bytes);
        memcpy(&word, copy + (place - stopped.base), sizeof word);
    }
    memset(copy + (place - stopped.base), 0x55, sizeof word);
    returns[0] = (struct tt_kernel_return){place - 64, 1};
    returns[1] = (struct tt_kernel_return){place, word};
    tt_kernel_unwind(unwind, &stopped, &again.frames, &again.words);
    assert_true(again.frames.cut && again.frames.n < seen->frames.n);
    stopped.returns = returns;
    tt_kernel_unwind(unwind, &stopped, &again.frames, &again.words);
    assert_int_equal(again.frames.n, seen->frames.n);
    assert_memory_equal(again.frames.pc, seen->frames.pc, seen->frames.n * sizeof(uint64_t));
}

static void look_at_child(size_t room, size_t bytes, struct seen *out)
{
    int ready[2], go[2], status;
    char byte = 'g';
    assert_int_equal(pipe(ready) | pipe(go), 0);
    pid_t pid = fork();
    if (pid == 0) {
        outer(ready[1], go[0], room);
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
    struct user_regs_struct regs = {0};
    for (;;) { /* until it stands in read(2) */
        assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSTOPPED(status));
        ptrace(PTRACE_GETREGS, pid, NULL, &regs);
        if (regs.orig_rax == 0 && (int)regs.rdi == go[0])
            break;
        ptrace(PTRACE_CONT, pid, NULL, NULL);
    }
    static uint8_t copy[64 << 10];
    uint64_t base = regs.rsp & ~4095ULL;
    const struct iovec to = {copy, bytes}, from = {(void *)(uintptr_t)base, bytes};
    ssize_t got = process_vm_readv(pid, &to, 1, &from, 1, 0);
    assert_true(got > 0);
    struct tt_kernel_files *files = tt_kernel_files_new();
    struct tt_kernel_unwind *unwind = tt_kernel_unwind_new(files, pid);
    assert_non_null(unwind);
    const struct tt_kernel_stopped stopped = {.ip = regs.rip,
                                              .sp = regs.rsp,
                                              .bp = regs.rbp,
                                              .di = regs.rdi,
                                              .copy = copy,
                                              .base = base,
                                              .bytes = (size_t)got};
    out->sp = regs.rsp;
    tt_kernel_unwind(unwind, &stopped, &out->frames, &out->words);
    for (uint32_t i = 0; i < out->words.n; i++) { /* what was noted is what stands there */
        uint64_t word;
        memcpy(&word, copy + (regs.rsp - base) + (out->words.at[i] & ~7u), sizeof word);
        assert_int_equal(out->words.at[i] & 1 ? word - regs.rsp : word, out->words.word[i]);
    }
    if (out->frames.n > 3 && !out->frames.cut)
        look_again(unwind, stopped, copy, out);
    ptrace(PTRACE_DETACH, pid, NULL, NULL);
    assert_int_equal(write(go[1], "g", 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(go[i]);
    }
    tt_kernel_unwind_free(unwind);
    tt_kernel_files_free(files);
}

#ifdef __SANITIZE_ADDRESS__
#define SKIP_SANITIZED() skip() /* the sanitizer's read() has frames of its own */
#else
#define SKIP_SANITIZED() (void)0
#endif

static void a_stack_is_unwound_from_its_copy(void **state)
{
    struct seen seen;
    (void)state;
    SKIP_SANITIZED();
    look_at_child(100, 16 << 10, &seen);
    assert_true(seen.frames.n >= 5);
    assert_true(seen.frames.wrapper); /* read(3) */
    assert_true(within(seen.frames.pc[1], (void (*)(void))innermost));
    assert_true(within(seen.frames.pc[2], (void (*)(void))middle));
    assert_true(within(seen.frames.pc[3], (void (*)(void))outer));
    assert_false(seen.frames.cut && seen.frames.short_copy);
    assert_true(seen.words.n >= seen.frames.n - 1);
}

static void a_stack_beyond_its_copy_is_cut(void **state)
{
    struct seen seen;
    (void)state;
    SKIP_SANITIZED();
    look_at_child(20000, 8 << 10, &seen);
    assert_true(seen.frames.cut);
    assert_true(seen.frames.short_copy);
    assert_true(within(seen.frames.pc[1], (void (*)(void))innermost));
    look_at_child(20000, 36 << 10, &seen);
    assert_true(within(seen.frames.pc[3], (void (*)(void))outer));
    assert_false(seen.words.whole); /* too far apart to be compared in the kernel */
}

static void ages_have_the_tapes_bins(void **state)
{
    (void)state;
    for (uint32_t age = 0; age <= TT_TAPE_TICK_MAX; age += 1 + age / 4096)
        assert_int_equal(tt_kernel_bin(age), tt_tape_bin(age));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ages_have_the_tapes_bins),
        cmocka_unit_test(same_stack_same_site),
        cmocka_unit_test(held_units_are_found_again),
        cmocka_unit_test(mappings_keep_their_account),
        cmocka_unit_test(threads_detach_before_they_are_told),
        cmocka_unit_test(joins_are_told_after_the_next_thread),
        cmocka_unit_test(calls_within_a_call_count_once),
        cmocka_unit_test(handles_of_libraries_count_up),
        cmocka_unit_test(late_munmaps_take_nothing),
        cmocka_unit_test(a_stack_is_unwound_from_its_copy),
        cmocka_unit_test(a_stack_beyond_its_copy_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
