/* SPDX-License-Identifier: Apache-2.0 */
/* What counts as a root and what does not, on made-up images. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "test_heap_fake.h"

static void test_roots(void **unused)
{
    (void)unused;
    struct tt_fake f;
    tt_fake_start(&f, 1 << 20);
    uint64_t b[14];
    for (int i = 0; i < 14; i++)
        b[i] = tt_fake_block(&f, 40);
    *tt_fake_word(&f, FAKE_DATA + 8) = b[0];
    *tt_fake_word(&f, FAKE_DATA + 16) = b[1] + 39;       /* interior */
    *tt_fake_word(&f, FAKE_DATA + 24) = b[2] + 40;       /* right behind: the next one's header */
    *tt_fake_word(&f, FAKE_STACK + 0x2000 - 128) = b[3]; /* red zone */
    *tt_fake_word(&f, FAKE_STACK + 0x2000 - 136) = b[4]; /* dead */
    *tt_fake_word(&f, FAKE_STACK + FAKE_STACK_SIZE - 8) = b[5]; /* last word of the stack */
    *tt_fake_word(&f, FAKE_MAPPED + 64) = b[6]; /* thread-local data and other mappings */
    f.image.threads.data[0].regs.rbx = b[7];
    assert_int_equal(
        tt_vec_push(&f.image.kernel_roots, (struct tt_heap_kernel_root){b[8], "epoll data"}), 0);
    uint64_t gone = f.top; /* a free chunk: its content is no root */
    f.top += 64;
    *tt_fake_word(&f, gone + 16) = b[9];
    *tt_fake_word(&f, b[0]) = b[10]; /* through a block */
    *tt_fake_word(&f, b[10] + 32) = b[11];
    *tt_fake_word(&f, FAKE_DATA + 32) = b[12] | 0xab00000000000000ull; /* a tag in the upper bits */
    *tt_fake_word(&f, b[13]) = b[13];                                  /* only itself */
    tt_fake_mark(&f, 2);
    const bool wanted[14] = {1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 1, 0, 0};
    for (int i = 0; i < 14; i++)
        assert_int_equal(tt_fake_reached(&f, b[i]), wanted[i]);
    assert_int_equal(f.marks.tagged_lost, 1);
    tt_fake_end(&f);
}

static void put_control_block(struct tt_fake *f, uint64_t at, uint32_t tid)
{
    *tt_fake_word(f, at) = at;
    *tt_fake_word(f, at + 0x10) = at;
    *tt_fake_word(f, at + 0x2d0) = tid;
}

static void test_stacks_of_ended_threads(void **unused)
{
    (void)unused;
    for (int odd = 0; odd < 3; odd++) { /* 1: the living thread is no glibc thread; 2: no guard */
        struct tt_fake f;
        tt_fake_start(&f, 1 << 20);
        uint64_t live_stack = FAKE_MAPPED + 0x100000, dead_stack = FAKE_MAPPED + 0x200000;
        struct tt_heap_range main_stack = f.image.ranges.data[5];
        uint8_t *main_memory = f.memory[5];
        f.image.ranges.len--;
        tt_fake_add_range(&f, live_stack, 0x4000, TT_HEAP_STACK, "");
        tt_fake_add_range(&f, dead_stack, 0x4000, TT_HEAP_ANON, "");
        if (odd == 2) {
            f.image.ranges.data[6].start -= 0x1000;
            f.image.ranges.data[5].end = f.image.ranges.data[6].start;
            f.image.ranges.data[5].start = f.image.ranges.data[5].end - 0x4000;
            live_stack = f.image.ranges.data[5].start;
            f.image.ranges.data[6].start += 0x1000;
            f.image.ranges.data[5].end += 0x1000;
            free(f.memory[5]);
            f.memory[5] = calloc(1, 0x5000);
            f.image.ranges.data[5].bytes = f.memory[5];
        }
        f.memory[7] = main_memory;
        assert_int_equal(tt_vec_push(&f.image.ranges, main_stack), 0);
        put_control_block(&f, FAKE_MAPPED + 0x1000, odd == 1 ? 0 : 100);
        put_control_block(&f, live_stack + 0x3700, 101);
        put_control_block(&f, dead_stack + 0x3700, odd ? 0 : UINT32_MAX); /* joined */
        f.image.threads.data[0].regs.fs_base = FAKE_MAPPED + 0x1000;
        struct tt_heap_thread t = {.tid = 101};
        t.regs.rsp = live_stack + 0x3000;
        t.regs.fs_base = live_stack + 0x3700;
        assert_int_equal(tt_vec_push(&f.image.threads, t), 0);
        uint64_t in_live = tt_fake_block(&f, 40), in_dead = tt_fake_block(&f, 40),
                 below = tt_fake_block(&f, 40);
        *tt_fake_word(&f, live_stack + 0x3100) = in_live;
        *tt_fake_word(&f, live_stack + 0x1000) = below;
        *tt_fake_word(&f, dead_stack + 0x3100) = in_dead;
        uint64_t dtv = tt_fake_block(&f, 280);
        *tt_fake_word(&f, dead_stack + 0x3708) = dtv + 16;
        tt_fake_mark(&f, 1);
        assert_true(tt_fake_reached(&f, in_live));
        assert_false(tt_fake_reached(&f, below));
        assert_int_equal(tt_fake_reached(&f, in_dead), odd != 0);
        assert_true(tt_fake_reached(&f, dtv));
        tt_fake_end(&f);
    }
}

static void test_own_stacks_are_roots(void **unused)
{
    (void)unused;
    struct tt_fake
        f; /* a stack that the program mapped: what lies below its pointer may be in use */
    tt_fake_start(&f, 1 << 20);
    f.image.threads.data[0].regs.rsp = FAKE_MAPPED + 0x2000;
    uint64_t below = tt_fake_block(&f, 40), coroutine = tt_fake_block(&f, 4096),
             held = tt_fake_block(&f, 40);
    *tt_fake_word(&f, FAKE_MAPPED + 0x1000) = below;
    struct tt_heap_thread t = {.tid = 101}; /* and one that runs on a block */
    t.regs.rsp = coroutine + 2048;
    assert_int_equal(tt_vec_push(&f.image.threads, t), 0);
    *tt_fake_word(&f, coroutine + 3000) = held;
    tt_fake_mark(&f, 1);
    assert_true(tt_fake_reached(&f, below));
    assert_true(tt_fake_reached(&f, coroutine));
    assert_true(tt_fake_reached(&f, held));
    tt_fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roots),
        cmocka_unit_test(test_stacks_of_ended_threads),
        cmocka_unit_test(test_own_stacks_are_roots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
