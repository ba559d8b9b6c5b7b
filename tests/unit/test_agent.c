/* SPDX-License-Identifier: Apache-2.0 */
/* The agent against ground truth: sites, stacks, births, deaths and live entries of exact mode are
 * what the fixture says of itself; children have tapes of their own. Also proves that the core
 * needs no loader. Start: check_exact. */
#include "test_agent_run.h"

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_build.h"

/* ---- exact ---- */

static void check_exact(const char *what)
{
    struct run run;
    struct tape tape;
    run_fixture(&run, "mode=exact", what);
    tape_of(&run, &tape, 0);
    assert_int_equal(tape.head->mode, TT_MODE_EXACT);
    assert_int_equal(tape.head->dropped[TT_DROP_REGIONS], 0);
    assert_int_equal(tape.head->dropped[TT_DROP_CUT_UNWIND], 0);
    assert_true(run.count > 0);
    for (unsigned k = 0; k < run.count; k++) {
        struct total sum = {0};
        const struct truth *t = &run.truth[k];
        for (uint32_t i = 1; i < tape.head->site_count; i++)
            if (same_stack(&tape, &run, i, t)) {
                sum.births += tape.total[i].births;
                sum.deaths += tape.total[i].deaths;
                sum.bytes += tape.total[i].bytes;
            }
        if (sum.births != t->births)
            print_error("%s: site %s\n", what, t->name);
        assert_int_equal(sum.births, t->births);
        assert_int_equal(sum.deaths, t->deaths);
        assert_int_equal((long)sum.bytes, t->bytes);
    }
    close_tape(&tape);
}

static void exact_follows_every_block(void **state)
{
    (void)state;
    check_exact("counts");
    check_exact("family");
}

static void little_address_space(void **state)
{
    struct run run;
    struct tape tape;
    (void)state;
    address_space = 512u << 20;
    check_exact("counts");
    check_exact("threads");
    run_fixture(&run, "mode=sampled,mean=64,seed=5", "counts");
    tape_of(&run, &tape, 64);
    assert_int_equal(tape.head->state, TT_STATE_ENDED);
    assert_true(tape.head->site_count > 2);
    close_tape(&tape);
    address_space = 256u << 20;
    run_fixture(&run, "mode=exact", "counts");
    tape_of(&run, &tape, 0);
    assert_int_equal(tape.head->state, TT_STATE_REFUSED);
    close_tape(&tape);
    address_space = RLIM_INFINITY;
}

static void exact_counts_realloc_as_death_and_birth(void **state)
{
    (void)state;
    check_exact("resizes");
    check_exact("growth");
}

static void exact_stacks_equal_backtrace(void **state)
{
    (void)state;
    check_exact("recursion");
    check_exact("signals");
}

static void exact_survives_jumps_and_coroutines(void **state)
{
    (void)state;
    check_exact("jumps");
    check_exact("coroutines");
}

static void handlers_inside_the_agent_do_no_harm(void **state)
{
    static const char *const conf[] = {"mode=exact", "mode=sampled,mean=200,seed=2",
                                       "mode=adaptive,seed=2"};
    (void)state;
    check_exact("interrupts");
    /* Leaving by longjmp may lose the count of the call left, nothing else. */
    for (unsigned i = 0; i < 3; i++) {
        struct run run;
        run_fixture(&run, conf[i], "escapes");
    }
}

static void exact_counts_across_threads(void **state)
{
    struct run run;
    struct tape tape;
    (void)state;
    check_exact("threads");
    /* Ended threads give their state back: their slots stay few. */
    run_fixture(&run, "mode=exact", "threads");
    tape_of(&run, &tape, 0);
    assert_true(tape.head->thread_count < 500);
    close_tape(&tape);
}

static void exact_needs_no_descriptor(void **state)
{
    (void)state;
    check_exact("closes");
}

/* ---- children ---- */

static void children_have_tapes_of_their_own(void **state)
{
    (void)state;
    check_exact("forks");
    assert_int_equal(count_tapes(), 21);
    DIR *dir = opendir(tapes);
    unsigned children = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        struct tape tape;
        if (e->d_name[0] != 't')
            continue;
        open_tape(&tape, e->d_name, 0);
        if (tape.head->parent != (uint32_t)getpid()) {
            long births = 0, deaths = 0;
            for (uint32_t i = 1; i < tape.head->site_count; i++) {
                births += tape.total[i].births;
                deaths += tape.total[i].deaths;
            }
            assert_int_equal(births, 3);
            assert_int_equal(deaths, 1);
            children++;
        }
        close_tape(&tape);
    }
    closedir(dir);
    assert_int_equal(children, 20);
}

static void child_without_tape_is_counted(void **state)
{
    struct run run;
    struct tape tape;
    (void)state;
    if (geteuid() != 0)
        skip();
    run_fixture(&run, "mode=exact", "dropped");
    tape_of(&run, &tape, 0);
    assert_int_equal(tape.head->dropped[TT_DROP_CHILDREN], 1);
    assert_int_equal(count_tapes(), 1);
    close_tape(&tape);
}

static void follow_0_leaves_children_alone(void **state)
{
    struct run run;
    (void)state;
    run_fixture(&run, "mode=exact,follow=0", "forks");
    assert_int_equal(count_tapes(), 1);
}

/* ---- the core stands alone ---- */

static void core_needs_no_loader(void **state)
{
    char path[320];
    struct stat st;
    (void)state;
    build_path(path, sizeof path, "src/agent/libtelltale-core.so");
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    const uint8_t *base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_true(base != MAP_FAILED);
    close(fd);
    const Elf64_Ehdr *e = (const void *)base;
    const Elf64_Phdr *segment = (const void *)(base + e->e_phoff);
    const Elf64_Shdr *section = (const void *)(base + e->e_shoff);
    for (unsigned i = 0; i < e->e_phnum; i++)
        assert_true(segment[i].p_type != PT_TLS);
    for (unsigned i = 0; i < e->e_shnum; i++) {
        if (section[i].sh_type == SHT_RELA || section[i].sh_type == SHT_REL)
            assert_int_equal(section[i].sh_size, 0);
        if (section[i].sh_type != SHT_SYMTAB && section[i].sh_type != SHT_DYNSYM)
            continue;
        const Elf64_Sym *symbol = (const void *)(base + section[i].sh_offset);
        for (unsigned k = 1; k < section[i].sh_size / sizeof *symbol; k++)
            assert_true(symbol[k].st_shndx != SHN_UNDEF);
    }
    munmap((void *)(uintptr_t)base, (size_t)st.st_size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_follows_every_block),
        cmocka_unit_test(little_address_space),
        cmocka_unit_test(exact_counts_realloc_as_death_and_birth),
        cmocka_unit_test(exact_stacks_equal_backtrace),
        cmocka_unit_test(exact_survives_jumps_and_coroutines),
        cmocka_unit_test(handlers_inside_the_agent_do_no_harm),
        cmocka_unit_test(exact_counts_across_threads),
        cmocka_unit_test(exact_needs_no_descriptor),
        cmocka_unit_test(children_have_tapes_of_their_own),
        cmocka_unit_test(child_without_tape_is_counted),
        cmocka_unit_test(follow_0_leaves_children_alone),
        cmocka_unit_test(core_needs_no_loader),
    };
    return cmocka_run_group_tests(tests, tapes_make, tapes_remove);
}
