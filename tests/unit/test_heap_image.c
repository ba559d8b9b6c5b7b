/* SPDX-License-Identifier: Apache-2.0 */
/* Images: kinds of ranges, reservations that were never touched, roots that only the kernel knows,
 * and files that are no cores. */
#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/procfs.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "heap/internal_image.h"
#include "test_heap_child.h"

#define GIB (1ull << 30)

static uint64_t in_data = 0x1122334455667788ULL, in_bss[4096];

enum { RESERVED, SHARED, OURS, READ_ONLY, POINTER, CODE };

static void arrange(struct tt_child_truth *truth)
{
    uint64_t *p = mmap(NULL, 64 * GIB, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    p[0] = 1;
    p[40 * GIB / 8] = 2;
    truth->word[RESERVED] = (uint64_t)(uintptr_t)p;
    p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    p[3] = 3;
    truth->word[SHARED] = (uint64_t)(uintptr_t)p;
    int fd = memfd_create("telltale-tape", 0);
    if (ftruncate(fd, 8192))
        _exit(1);
    truth->word[OURS] =
        (uint64_t)(uintptr_t)mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p[1] = 4;
    mprotect(p, 8192, PROT_READ);
    truth->word[READ_ONLY] = (uint64_t)(uintptr_t)p;
    truth->word[POINTER] = 0x123456789abcd0ULL;
    struct epoll_event event = {.events = EPOLLIN,
                                .data.ptr = (void *)(uintptr_t)truth->word[POINTER]};
    int ends[2], poll = epoll_create1(0);
    timer_t timer;
    struct sigevent told = {.sigev_notify = SIGEV_SIGNAL,
                            .sigev_signo = SIGUSR1,
                            .sigev_value.sival_ptr = (void *)(uintptr_t)(truth->word[POINTER] + 8)};
    if (pipe(ends) || epoll_ctl(poll, EPOLL_CTL_ADD, ends[0], &event) ||
        timer_create(CLOCK_MONOTONIC, &told, &timer))
        _exit(1);
    in_bss[1] = 5;
    truth->word[CODE] = (uint64_t)(uintptr_t)&arrange;
}

static uint64_t read_word(const struct tt_heap_image *image, uint64_t address)
{
    uint64_t word = 0;
    assert_true(tt_heap_word(image, address, &word));
    return word;
}

static bool has_root(const struct tt_heap_image *image, uint64_t value, const char *what)
{
    for (size_t i = 0; i < image->kernel_roots.len; i++)
        if (image->kernel_roots.data[i].value == value &&
            strstr(image->kernel_roots.data[i].what, what))
            return true;
    return false;
}

static void frozen(void **state)
{
    (void)state;
    struct tt_child_truth *truth;
    struct tt_heap_image image;
    tt_child_image(arrange, &truth, &image);
    const uint64_t *w = truth->word;
    for (size_t i = 1; i < image.ranges.len; i++)
        assert_true(image.ranges.data[i].start >= image.ranges.data[i - 1].end);

    assert_int_equal(read_word(&image, w[RESERVED]), 1);
    assert_int_equal(read_word(&image, w[RESERVED] + 40 * GIB), 2);
    assert_null(tt_heap_bytes(&image, w[RESERVED] + 20 * GIB, 8)); /* not read, and said so */
    assert_int_equal(tt_heap_range_at(&image, w[RESERVED] + 20 * GIB)->kind, TT_HEAP_ANON);
    assert_true(image.read_bytes < GIB);

    assert_int_equal(tt_heap_range_at(&image, w[SHARED])->kind, TT_HEAP_SHARED);
    assert_int_equal(read_word(&image, w[SHARED] + 24), 3);
    assert_int_equal(tt_heap_range_at(&image, w[OURS])->kind, TT_HEAP_OURS);
    assert_int_equal(tt_heap_range_at(&image, w[READ_ONLY])->kind, TT_HEAP_ANON);
    assert_int_equal(read_word(&image, w[READ_ONLY] + 8), 4);

    const struct tt_heap_range *r = tt_heap_range_at(&image, (uint64_t)(uintptr_t)&in_data);
    assert_int_equal(r->kind, TT_HEAP_DATA);
    assert_non_null(strstr(r->path, "test_heap_image"));
    assert_int_equal(read_word(&image, (uint64_t)(uintptr_t)&in_data), in_data);
    r = tt_heap_range_at(&image, (uint64_t)(uintptr_t)&in_bss[4095]);
    assert_int_equal(r->kind, TT_HEAP_DATA); /* bss, and named after its module */
    assert_non_null(strstr(r->path, "test_heap_image"));
    assert_int_equal(read_word(&image, (uint64_t)(uintptr_t)&in_bss[1]), 5);
    r = tt_heap_range_at(&image, w[CODE]);
    assert_int_equal(r->kind, TT_HEAP_TEXT);
    assert_null(r->bytes);
    r = tt_heap_range_at(&image, image.threads.data[0].regs.rsp);
    assert_int_equal(r->kind, TT_HEAP_STACK);
    assert_non_null(r->bytes);

    assert_true(has_root(&image, w[POINTER], "epoll data"));
    assert_true(has_root(&image, w[POINTER] + 8, "timer"));
    assert_null(tt_heap_range_at(&image, 8));
    assert_null(tt_heap_range_at(&image, ~0ull));
    tt_heap_image_free(&image);
    munmap(truth, sizeof *truth);
}

static int open_core(const void *bytes, size_t n, struct tt_error *err)
{
    char path[] = "/tmp/tt-core-XXXXXX";
    struct tt_heap_image image;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
    int rc = tt_heap_image_core(path, NULL, &image, err);
    unlink(path);
    if (rc == 0)
        tt_heap_image_free(&image);
    return rc;
}

static void not_cores(void **state)
{
    (void)state;
    struct tt_error err = {0};
    struct tt_heap_image image;
    Elf64_Ehdr eh = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_CORE,
        .e_machine = EM_X86_64,
        .e_version = EV_CURRENT,
        .e_phoff = sizeof eh,
        .e_ehsize = sizeof eh,
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = 3};
    assert_int_equal(tt_heap_image_core("/nonexistent", NULL, &image, &err), -ENOENT);
    assert_int_equal(tt_heap_image_core("/tmp", NULL, &image, &err), -ENOEXEC);
    assert_int_equal(tt_heap_image_core("/proc/self/exe", NULL, &image, &err), -ENOEXEC);
    assert_non_null(strstr(err.text, "not a core"));
    assert_int_equal(open_core("hello", 5, &err), -ENOEXEC);
    char text[4096] = "a text of some length";
    assert_int_equal(open_core(text, sizeof text, &err), -ENOEXEC);
    assert_int_equal(open_core(&eh, sizeof eh, &err), -ENOEXEC); /* headers cut off */
    assert_non_null(strstr(err.text, "truncated"));
    eh.e_machine = EM_AARCH64;
    assert_int_equal(open_core(&eh, sizeof eh, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "another machine"));
    assert_null(strchr(err.text, '\n'));
}

/* A thread and two segments, apart in memory; in the file they must be, too. */
static void segments_share_no_bytes(void **state)
{
    (void)state;
    struct {
        Elf64_Ehdr eh;
        Elf64_Phdr ph[3];
        Elf64_Nhdr nh;
        char name[8];
        struct elf_prstatus status;
        uint8_t memory[8192];
    } core = {
        .eh = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
               .e_type = ET_CORE,
               .e_machine = EM_X86_64,
               .e_version = EV_CURRENT,
               .e_phoff = sizeof core.eh,
               .e_ehsize = sizeof core.eh,
               .e_phentsize = sizeof *core.ph,
               .e_phnum = 3},
        .ph = {{.p_type = PT_NOTE,
                .p_offset = offsetof(__typeof__(core), nh),
                .p_filesz = offsetof(__typeof__(core), memory) - offsetof(__typeof__(core), nh),
                .p_align = 4},
               {.p_type = PT_LOAD,
                .p_flags = PF_R | PF_W,
                .p_offset = offsetof(__typeof__(core), memory),
                .p_vaddr = 0x10000,
                .p_filesz = 4096,
                .p_memsz = 4096},
               {.p_type = PT_LOAD,
                .p_flags = PF_R | PF_W,
                .p_offset = offsetof(__typeof__(core), memory) + 4096,
                .p_vaddr = 0x20000,
                .p_filesz = 4096,
                .p_memsz = 4096}},
        .nh = {5, sizeof core.status, NT_PRSTATUS},
        .name = "CORE",
    };
    struct tt_error err = {0};
    assert_int_equal(open_core(&core, sizeof core, &err), 0);
    for (unsigned i = 1; i < 3; i++) {
        core.ph[i].p_offset = 0;
        core.ph[i].p_filesz = core.ph[i].p_memsz = sizeof core - 4096;
    }
    assert_int_equal(open_core(&core, sizeof core, &err), -ENOEXEC);
    assert_non_null(strstr(err.text, "overlap"));
}

/* ---- large ranges, read when they are looked at ---- */

enum { BIG = 192 << 20, GAP = 12 << 20 }; /* of GAP the last MiB is never touched */

static bool is_gap(uint64_t offset)
{
    return offset % GAP >= GAP - (1 << 20);
}

static pid_t start_big(uint64_t *big)
{
    uint64_t *told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(told, MAP_FAILED);
    pid_t pid = fork();
    if (pid == 0) {
        uint8_t *p = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || ptrace(PTRACE_TRACEME, 0, 0, 0))
            _exit(1);
        for (uint64_t at = 0; at < BIG; at += 512)
            if (!is_gap(at))
                *(uint64_t *)(void *)(p + at) = (uint64_t)(uintptr_t)p + at + 1;
        told[0] = (uint64_t)(uintptr_t)p;
        raise(SIGSTOP);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    *big = told[0];
    munmap(told, 4096);
    return pid;
}

struct reading {
    const uint8_t *bytes;
    uint64_t big, wrong, seed;
};

static void look(struct reading *r, uint64_t at)
{
    uint64_t word;
    memcpy(&word, r->bytes + at, sizeof word);
    r->wrong += word != (is_gap(at) ? 0 : r->big + at + 1);
}

static void *look_everywhere(void *arg)
{
    struct reading *r = arg;
    for (uint64_t at = 0; at < BIG; at += 512) /* in order, so that pieces are read ahead */
        look(r, at);
    for (uint64_t x = r->seed, i = 0; i < 4000; i++) { /* and not: pieces come and go */
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        look(r, x % BIG & ~511ull);
    }
    return NULL;
}

static void late(void **state)
{
    (void)state;
    struct tt_error err = {0};
    struct tt_heap_image image;
    uint64_t big;
    pid_t pid = start_big(&big);
    struct tt_heap_thread thread = {.tid = pid};
    assert_int_equal(ptrace(PTRACE_GETREGS, pid, 0, &thread.regs), 0);
    assert_int_equal(tt_heap_image_late(pid, pid, &thread, 1, &image, &err), 0);
    if (!image.pager) {
        print_message("this kernel does not move pages: all was read at once\n");
    } else {
        struct reading r[3];
        pthread_t threads[3];
        for (unsigned i = 0; i < 3; i++) {
            r[i] = (struct reading){tt_heap_bytes(&image, big, BIG), big, 0, i + 1};
            assert_non_null(r[i].bytes);
            assert_int_equal(pthread_create(&threads[i], NULL, look_everywhere, &r[i]), 0);
        }
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
            assert_int_equal(r[i].wrong, 0);
        }
        assert_int_equal(tt_heap_pager_unread(image.pager), 0);
        assert_false(tt_heap_pager_broken(image.pager));
    }
    tt_heap_image_free(&image);
    /* A copy that dies is noticed. */
    assert_int_equal(tt_heap_image_late(pid, pid, &thread, 1, &image, &err), 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    if (image.pager) {
        struct reading r = {tt_heap_bytes(&image, big, BIG), big, 0, 1};
        look(&r, BIG / 2);
        assert_int_equal(r.wrong, 1);
        assert_true(tt_heap_pager_broken(image.pager));
    }
    tt_heap_image_free(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frozen),
        cmocka_unit_test(late),
        cmocka_unit_test(not_cores),
        cmocka_unit_test(segments_share_no_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
