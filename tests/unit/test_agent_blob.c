/* SPDX-License-Identifier: Apache-2.0 */
/* The blob as such: its file needs nothing of anybody, and in exact mode what it counts is what was
 * asked for, recording after recording. Start: follows_exactly. */
#include "test_agent_blob_host.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void image_needs_nothing(void **state)
{
    (void)state;
    size_t bytes;
    const uint8_t *file = read_blob(&bytes);
    const Elf64_Ehdr *e = (const void *)file;
    const Elf64_Phdr *p = (const void *)(file + e->e_phoff);
    assert_null(section(file, SHT_RELA));
    assert_null(section(file, SHT_REL));
    for (unsigned i = 0; i < e->e_phnum; i++) {
        assert_int_not_equal(p[i].p_type, PT_TLS);
        if (p[i].p_type == PT_LOAD)
            assert_int_not_equal(p[i].p_flags & (PF_W | PF_X), PF_W | PF_X);
    }
    const Elf64_Shdr *table = section(file, SHT_SYMTAB);
    const Elf64_Sym *symbol = (const void *)(file + table->sh_offset);
    for (size_t i = 1; i < table->sh_size / sizeof *symbol; i++)
        assert_int_not_equal(symbol[i].st_shndx, SHN_UNDEF);
    munmap((void *)(uintptr_t)file, bytes);
    assert_true((uint8_t *)blob == image + TT_BLOB_AT);
    for (unsigned s = 0; s < TT_BLOB_SETS; s++)
        for (unsigned n = 0; n < TT_E_COUNT; n++)
            assert_in_range(blob->entry[s][n], 64, blob->text_end - 1);
    assert_in_range(blob->entry_dlclose, 64, blob->text_end - 1);
    assert_in_range(blob->enter, 64, blob->text_end - 1);
}

static void follows_exactly(void **state)
{
    (void)state;
    uint64_t block[100];
    assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
    assert_int_equal(head()->state, TT_STATE_RUNNING);
    assert_int_equal(head()->pid, getpid());
    assert_string_equal(head()->allocator, "glibc");
    for (int i = 0; i < 100; i++)
        block[i] = make(100);
    for (int i = 0; i < 60; i++)
        drop(block[i]);
    expect(100, 60);
    uint64_t moved = call(0, TT_E_REALLOC, block[60], 5000, 0);
    uint64_t zero = call(0, TT_E_CALLOC, 10, 10, 0);
    uint64_t again = call(0, TT_E_REALLOC, 0, 10, 0);
    expect(103, 61);
    /* the stack leads from the call to this function */
    const struct tt_tape_site *site = (const void *)(tape + TT_TAPE_OFF_SITES);
    const uint64_t *frames = (const void *)(tape + TT_TAPE_OFF_FRAMES);
    assert_true(head()->site_count > 1);
    assert_true(site[1].depth > 3);
    assert_false(site[1].flags & TT_SITE_CUT);
    union {
        void (*fn)(void **);
        uint64_t at;
    } own = {follows_exactly};
    int seen = 0;
    for (unsigned i = 0; i < site[1].depth; i++)
        seen |= frames[site[1].frames + i] - own.at < 0x400;
    assert_true(seen);
    assert_int_equal(order(TT_BLOB_PASS), 0);
    assert_int_equal(head()->state, TT_STATE_QUIET);
    assert_int_equal(blob->detached_live, 0);
    for (int i = 61; i < 100; i++)
        drop(block[i]);
    drop(moved);
    drop(zero);
    drop(again);
    drop(make(10));
    expect(103, 61);
}

static void starts_again_with_nothing_of_before(void **state)
{
    (void)state;
    uint64_t block[64];
    for (unsigned round = 0; round < 6; round++) {
        assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
        for (unsigned i = 0; i < 64; i++)
            block[i] = i % 2 ? make(40 + round) : call(0, TT_E_CALLOC, 1, 40, 0);
        expect(64, 0);
        for (unsigned i = 0; i < 64; i++)
            drop(block[i]);
        expect(64, 64);
        assert_int_equal(order(TT_BLOB_PASS), 0);
        close(blob->call.tape_fd);
    }
}

static void memory_is_given_back(void **state)
{
    (void)state;
    struct stat before, after;
    uint64_t block[500];
    assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
    for (int i = 0; i < 500; i++)
        block[i] = make(3000);
    assert_int_equal(fstat(blob->call.tape_fd, &before), 0);
    int fd = blob->call.tape_fd;
    assert_int_equal(order(TT_BLOB_PASS), 0);
    assert_int_equal(order(TT_BLOB_DROP), 0);
    assert_int_equal(fstat(fd, &after), 0);
    assert_true(before.st_blocks > 100);
    assert_true(after.st_blocks <= 16);
    for (int i = 0; i < 500; i++)
        drop(block[i]);
    assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
    drop(make(10));
    expect(1, 1);
    assert_int_equal(order(99), -EINVAL);
    assert_true(blob->call.why[0] != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(image_needs_nothing, fresh, away),
        cmocka_unit_test_setup_teardown(follows_exactly, fresh, away),
        cmocka_unit_test_setup_teardown(starts_again_with_nothing_of_before, fresh, away),
        cmocka_unit_test_setup_teardown(memory_is_given_back, fresh, away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
