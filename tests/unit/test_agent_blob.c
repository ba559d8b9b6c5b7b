/* SPDX-License-Identifier: Apache-2.0 */
/* The blob, brought into this very process as inject does it: its segments are copied to some base
 * without any relocation, orders go through tt_blob.call on a stack of the blob's own, and what
 * patched entries would do is called by address. Ground truth is what the test itself asked for.
 * The blob lies beside this program in the build tree. Start: follows_exactly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "agent/blob.h"
#include "agent/region.h"
#include "tape/tape.h"

extern tt_real_fn __libc_malloc, __libc_free, __libc_calloc, __libc_realloc, __libc_memalign;

static char build[256]; /* top of the build tree */
static uint8_t *image;  /* of the blob in use */
static size_t image_bytes;
static struct tt_blob *blob;
static const uint8_t *tape;
static size_t tape_bytes;

/* ---- inject's part ---- */

static const void *read_blob(size_t *bytes)
{
    char path[300];
    struct stat st;
    snprintf(path, sizeof path, "%s/src/agent/telltale-agent.blob", build);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    void *file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_true(file != MAP_FAILED);
    close(fd);
    *bytes = (size_t)st.st_size;
    return file;
}

static const Elf64_Shdr *section(const uint8_t *file, uint32_t type)
{
    const Elf64_Ehdr *e = (const void *)file;
    const Elf64_Shdr *s = (const void *)(file + e->e_shoff);
    for (unsigned i = 0; i < e->e_shnum; i++)
        if (s[i].sh_type == type)
            return &s[i];
    return NULL;
}

static void load(void)
{
    size_t bytes;
    const uint8_t *file = read_blob(&bytes);
    const Elf64_Ehdr *e = (const void *)file;
    const Elf64_Phdr *p = (const void *)(file + e->e_phoff);
    uint64_t text = 0;
    image_bytes = 0;
    for (unsigned i = 0; i < e->e_phnum; i++) {
        if (p[i].p_type == PT_LOAD && p[i].p_vaddr + p[i].p_memsz > image_bytes)
            image_bytes = p[i].p_vaddr + p[i].p_memsz;
        if (p[i].p_type == PT_LOAD && p[i].p_flags & PF_X)
            text = (p[i].p_vaddr + p[i].p_memsz + 4095) & ~4095ULL;
    }
    image = mmap(NULL, image_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(image != MAP_FAILED);
    for (unsigned i = 0; i < e->e_phnum; i++)
        if (p[i].p_type == PT_LOAD)
            memcpy(image + p[i].p_vaddr, file + p[i].p_offset, p[i].p_filesz);
    assert_int_equal(mprotect(image, text, PROT_READ | PROT_EXEC), 0);
    const Elf64_Shdr *table = section(file, SHT_SYMTAB);
    assert_non_null(table);
    const Elf64_Shdr *strings = (const Elf64_Shdr *)(file + e->e_shoff) + table->sh_link;
    const Elf64_Sym *symbol = (const void *)(file + table->sh_offset);
    blob = NULL;
    for (size_t i = 0; i < table->sh_size / sizeof *symbol; i++)
        if (strcmp((const char *)file + strings->sh_offset + symbol[i].st_name, "tt_blob") == 0)
            blob = (struct tt_blob *)(image + symbol[i].st_value);
    assert_non_null(blob);
    munmap((void *)(uintptr_t)file, bytes);
    assert_true(blob->magic == TT_BLOB_MAGIC);
}

static void enter(void)
{
    union {
        uint8_t *at;
        void (*run)(void);
    } to = {image + blob->enter};
    static ucontext_t here, there;
    assert_int_equal(getcontext(&there), 0);
    there.uc_stack.ss_sp = blob->stack;
    there.uc_stack.ss_size = sizeof blob->stack;
    there.uc_link = &here;
    makecontext(&there, to.run, 0);
    assert_int_equal(swapcontext(&here, &there), 0);
}

static int order(uint32_t what)
{
    blob->call.what = what;
    blob->call.result = -1;
    enter();
    return blob->call.result;
}

static void unmap_tape(void)
{
    if (tape)
        munmap((void *)(uintptr_t)tape, tape_bytes);
    tape = NULL;
}

static int start_with(uint32_t mode, uint64_t mean)
{
    struct tt_blob_call *c = &blob->call;
    c->conf.mode = mode;
    c->conf.mean = mean;
    c->conf.rate = 1000000;
    c->conf.seed = 7;
    int result = order(TT_BLOB_START);
    if (result != 0)
        return result;
    assert_true(c->tape_fd >= 0);
    unmap_tape();
    tape_bytes = TT_TAPE_FILE_BYTES(c->host.granule_shift);
    tape =
        mmap(NULL, tape_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, c->tape_fd, 0);
    assert_true(tape != MAP_FAILED);
    return 0;
}

static void use_glibc(void)
{
    struct tt_blob_call *c = &blob->call;
    union {
        void *object;
        tt_real_fn *fn;
    } usable = {(void *)(uintptr_t)malloc_usable_size};
    c->real[0][TT_E_MALLOC] = __libc_malloc;
    c->real[0][TT_E_FREE] = __libc_free;
    c->real[0][TT_E_CALLOC] = __libc_calloc;
    c->real[0][TT_E_REALLOC] = __libc_realloc;
    c->real[0][TT_E_MEMALIGN] = __libc_memalign;
    c->real[0][TT_E_USABLE_SIZE] = usable.fn;
    c->host.granule_shift = 5;
    c->host.size_floor = 0;
    strcpy(c->host.allocator, "glibc");
    strcpy(c->host.exe, "/a/program");
}

/* What a thread that never met an agent has in its words. */
static void forget_thread(void)
{
    __asm__ volatile("movq $0,%%fs:0x38\n\tmovq $0,%%fs:0x40" : : : "memory");
}

static int fresh(void **state)
{
    (void)state;
    munmap((void *)TT_REGION_BASE, TT_REGION_BYTES);
    forget_thread();
    load();
    use_glibc();
    return 0;
}

static int away(void **state)
{
    (void)state;
    unmap_tape();
    forget_thread();
    return 0;
}

/* A call as it comes from a patched entry. */
static uint64_t call(uint32_t set, uint32_t entry, uint64_t a, uint64_t b, uint64_t c)
{
    union {
        uint8_t *at;
        tt_real_fn *fn;
    } to = {image + blob->entry[set][entry]};
    return to.fn(a, b, c);
}

static __attribute__((noinline)) uint64_t make(uint64_t size)
{
    uint64_t block = call(0, TT_E_MALLOC, size, 0, 0);
    __asm__ volatile("" : "+r"(block));
    return block;
}

static void drop(uint64_t block)
{
    call(0, TT_E_FREE, block, 0, 0);
}

/* ---- the recorder's part ---- */

static const struct tt_tape_head *head(void)
{
    return (const void *)tape;
}

struct sum {
    uint64_t births, deaths, live;
};

static struct sum count(void)
{
    struct sum sum = {0, 0, 0};
    const struct tt_tape_site *site = (const void *)(tape + TT_TAPE_OFF_SITES);
    const struct tt_tape_thread *slot = (const void *)(tape + TT_TAPE_OFF_THREADS);
    for (uint32_t i = 0; i < head()->site_count; i++) {
        sum.births += site[i].births;
        sum.deaths += site[i].early_deaths;
        for (unsigned k = 1; k < TT_TAPE_BINS; k++)
            sum.deaths += site[i].deaths[k];
    }
    for (uint32_t i = 1; i < head()->thread_count; i++)
        for (unsigned k = 0; k < TT_TAPE_TALLIES; k++) {
            sum.births += slot[i].tally[k].births;
            sum.deaths += slot[i].tally[k].early_deaths;
        }
    uint64_t bytes = TT_TAPE_REGION_BYTES(head()->granule_shift);
    for (uint32_t i = 0; i < head()->region_count; i++) {
        const uint64_t *entry = (const void *)(tape + TT_TAPE_OFF_SHADOW + i * bytes);
        for (uint64_t k = 0; k < bytes / 8; k++)
            sum.live += entry[k] != 0;
    }
    return sum;
}

static void expect(uint64_t births, uint64_t deaths)
{
    struct sum sum = count();
    assert_int_equal(sum.births, births);
    assert_int_equal(sum.deaths, deaths);
    assert_int_equal(sum.live, births - deaths);
}

static int in_region(uint64_t block)
{
    return tt_region_holds(block);
}

/* ---- tests ---- */

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

/* Natively, as after detach. */
static void release_as_glibc(uint64_t block, unsigned how)
{
    uint64_t more;
    switch (how % 4) {
    case 0:
        __libc_free(block, 0, 0);
        return;
    case 1: /* grow: the pages move */
        more = __libc_realloc(block, 200000, 0);
        assert_memory_equal((void *)more, "content", 8);
        memset((void *)more, 1, 200000);
        __libc_free(more, 0, 0);
        return;
    case 2: /* shrink */
        more = __libc_realloc(block, 9, 0);
        assert_memory_equal((void *)more, "content", 8);
        __libc_free(more, 0, 0);
        return;
    default: /* a little more, in place or not */
        more = __libc_realloc(block, malloc_usable_size((void *)block) + 1, 0);
        assert_memory_equal((void *)more, "content", 8);
        __libc_free(more, 0, 0);
    }
}

static void sampled_objects_are_glibcs_own(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1,    8,     24,    100,    4000,   4064,    4065,
                                     5000, 20000, 61000, 130000, 300000, 3u << 20};
    static const uint64_t aligns[] = {16, 32, 64, 512, 2048, 4096, 8192, 65536, 1u << 20};
    uint64_t block[4][64];
    for (unsigned round = 0; round < 4; round++) {
        unsigned n = 0;
        assert_int_equal(start_with(TT_MODE_SAMPLED, 1), 0);
        drop(make(1000)); /* the thread draws its first gap */
        uint64_t before = count().births;
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            block[round][n++] = make(sizes[i] + 64);
        for (unsigned i = 0; i < sizeof aligns / sizeof aligns[0]; i++) {
            block[round][n] = call(0, TT_E_MEMALIGN, aligns[i], 500, 0);
            assert_int_equal(block[round][n++] % aligns[i], 0);
        }
        uint64_t *zero = (uint64_t *)call(0, TT_E_CALLOC, 100, 8, 0);
        for (unsigned i = 0; i < 100; i++)
            assert_int_equal(zero[i], 0);
        block[round][n++] = (uint64_t)zero;
        for (unsigned i = 0; i < n; i++) {
            assert_true(in_region(block[round][i]));
            size_t usable = malloc_usable_size((void *)block[round][i]);
            assert_int_equal(usable, call(0, TT_E_USABLE_SIZE, block[round][i], 0, 0));
            memset((void *)block[round][i], 0x5a, usable);
            strcpy((char *)block[round][i], "content");
        }
        assert_int_equal(count().births, before + n);
        /* some released while followed, others of the earlier rounds meanwhile */
        for (unsigned i = 0; i < n; i += 3)
            drop(block[round][i]);
        if (round > 0) {
            for (unsigned i = 1; i < n; i += 3)
                drop(block[round - 1][i]);
        }
        struct sum sum = count();
        assert_int_equal(sum.deaths, sum.births - sum.live);
        assert_int_equal(sum.live, n - (n + 2) / 3);
        assert_int_equal(order(TT_BLOB_PASS), 0);
        assert_int_equal(blob->detached_live, 0);
        for (unsigned i = 2; i < n; i += 3)
            release_as_glibc(block[round][i], i / 3 + round);
        close(blob->call.tape_fd);
    }
    /* exact mode knows nothing of them and needs not */
    assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
    for (unsigned i = 1; i < 23; i += 3)
        drop(block[3][i]);
    expect(0, 0);
}

static void a_wrong_release_is_glibcs_to_judge(void **state)
{
    (void)state;
    assert_int_equal(start_with(TT_MODE_SAMPLED, 1), 0);
    drop(make(1000));
    uint64_t block = make(100);
    assert_true(in_region(block));
    drop(block);
    pid_t child = fork();
    if (child == 0) {
        close(2);
        drop(block); /* twice */
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void slots_are_used_again(void **state)
{
    (void)state;
    assert_int_equal(start_with(TT_MODE_SAMPLED, 1), 0);
    drop(make(1000));
    uint64_t used = 0;
    for (int i = 0; i < 20000; i++) {
        uint64_t small = make(100), large = make(90000);
        assert_true(in_region(small) && in_region(large));
        *(uint64_t *)small = *(uint64_t *)large = 1;
        drop(small);
        drop(large);
        if (i == 100)
            used = head()->region_used;
    }
    assert_int_equal(head()->region_used, used);
}

static void mappings_are_bounded(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    static uint64_t block[MANY];
    unsigned sampled = 0;
    assert_int_equal(start_with(TT_MODE_SAMPLED, 1), 0);
    for (unsigned i = 0; i < MANY; i++) {
        block[i] = make(64);
        sampled += (unsigned)in_region(block[i]);
    }
    assert_in_range(sampled, 1000, 65530 / 5);
    assert_true(head()->dropped[TT_DROP_SAMPLES] > 0);
    for (unsigned i = 0; i < MANY; i++)
        drop(block[i]);
    uint64_t last = make(64);
    assert_true(in_region(last));
    drop(last);
}

/* ---- several allocators ---- */

static uint8_t arena[1 << 20];
static size_t arena_used, arena_released;
static const void *arena_last;

static uint64_t arena_malloc(uint64_t size, uint64_t b, uint64_t c)
{
    (void)b;
    (void)c;
    uint64_t at = (uint64_t)arena + arena_used;
    arena_used += (size + 15) & ~15ULL;
    assert_true(arena_used <= sizeof arena);
    return at;
}

static uint64_t arena_free(uint64_t block, uint64_t b, uint64_t c)
{
    (void)b;
    (void)c;
    assert_false(in_region(block));
    arena_last = (const void *)block;
    arena_released++;
    return 0;
}

static uint64_t arena_realloc(uint64_t block, uint64_t size, uint64_t c)
{
    uint64_t at = arena_malloc(size, 0, c);
    if (block)
        memcpy((void *)at, (void *)block, 8);
    return at;
}

static void use_arena(void)
{
    struct tt_blob_call *c = &blob->call;
    arena_used = arena_released = 0;
    c->real[2][TT_E_MALLOC] = arena_malloc;
    c->real[2][TT_E_FREE] = arena_free;
    c->real[2][TT_E_REALLOC] = arena_realloc;
    c->host.granule_shift = 4;
    c->host.size_floor = 9;
}

static void sets_share_a_tape(void **state)
{
    (void)state;
    use_arena();
    assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
    uint64_t a = call(2, TT_E_MALLOC, 1, 0, 0), b = call(2, TT_E_MALLOC, 50, 0, 0), d = make(70);
    assert_true(a >= (uint64_t)arena && a < (uint64_t)arena + sizeof arena);
    expect(3, 0);
    b = call(2, TT_E_REALLOC, b, 60, 0);
    expect(4, 1);
    call(2, TT_E_FREE, a, 0, 0);
    assert_ptr_equal(arena_last, (const void *)a);
    call(2, TT_E_FREE, b, 0, 0);
    drop(d);
    expect(4, 4);
    assert_int_equal(arena_released, 2);
}

static void another_allocators_objects_keep_their_hooks(void **state)
{
    (void)state;
    uint64_t block[8];
    use_arena();
    assert_int_equal(start_with(TT_MODE_SAMPLED, 1), 0);
    drop(make(1000));
    for (int i = 0; i < 8; i++) {
        block[i] = call(2, TT_E_MALLOC, 100, 0, 0);
        assert_true(in_region(block[i]));
        strcpy((char *)block[i], "content");
    }
    assert_int_equal(order(TT_BLOB_PASS), 0);
    assert_int_equal(blob->detached_live, 8);
    call(2, TT_E_FREE, block[0], 0, 0);
    assert_false(in_region(call(2, TT_E_MALLOC, 100, 0, 0)));
    uint64_t moved = call(2, TT_E_REALLOC, block[1], 2000, 0);
    assert_false(in_region(moved));
    assert_string_equal((char *)moved, "content");
    assert_int_equal(order(TT_BLOB_PASS), 0);
    assert_int_equal(blob->detached_live, 6);
    assert_int_equal(arena_released, 0);
    /* recorded exactly now, and still released rightly */
    assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
    call(2, TT_E_FREE, block[2], 0, 0);
    uint64_t plain = call(2, TT_E_MALLOC, 100, 0, 0);
    call(2, TT_E_FREE, plain, 0, 0);
    expect(1, 1);
    assert_int_equal(arena_released, 1);
    /* and quiet again, with a hook's own way back to itself ruled out */
    assert_int_equal(order(TT_BLOB_PASS), 0);
    assert_int_equal(blob->detached_live, 5);
    plain = call(2, TT_E_MALLOC, 100, 0, 0);
    call(2, TT_E_FREE, plain, 0, 0);
    assert_int_equal(arena_released, 2);
    assert_int_equal(start_with(TT_MODE_SAMPLED, 1), 0);
    for (int i = 3; i < 8; i++)
        call(2, TT_E_FREE, block[i], 0, 0);
    assert_int_equal(order(TT_BLOB_PASS), 0);
    assert_int_equal(blob->detached_live, 0);
}

/* ---- operator new, dlclose ---- */

static unsigned threw;
static uint64_t new_throws(uint64_t size, uint64_t b, uint64_t c)
{
    (void)b;
    (void)c;
    threw += size == 77;
    return 0;
}
static uint64_t new_nothrow(uint64_t size, uint64_t b, uint64_t c)
{
    return size == 77 ? 0 : __libc_malloc(size, b, c);
}
static uint64_t closed(uint64_t handle, uint64_t b, uint64_t c)
{
    (void)b;
    (void)c;
    return handle + 1;
}

static void new_and_dlclose(void **state)
{
    (void)state;
    blob->call.real[0][TT_E_NEW] = new_throws;
    blob->call.real[0][TT_E_NEW_NOTHROW] = new_nothrow;
    blob->call.real[0][TT_E_DELETE] = __libc_free;
    blob->call.real_dlclose = closed;
    threw = 0;
    assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
    uint64_t block = call(0, TT_E_NEW, 50, 0, 0);
    assert_true(block != 0);
    call(0, TT_E_DELETE, block, 0, 0);
    expect(1, 1);
    assert_int_equal(call(0, TT_E_NEW, 77, 0, 0), 0);
    assert_int_equal(threw, 1);
    union {
        uint8_t *at;
        tt_real_fn *fn;
    } close_entry = {image + blob->entry_dlclose};
    uint64_t epoch = head()->module_epoch;
    assert_int_equal(close_entry.fn(41, 0, 0), 42);
    assert_int_equal(head()->module_epoch, epoch + 1);
    assert_int_equal(order(TT_BLOB_PASS), 0);
    assert_int_equal(close_entry.fn(41, 0, 0), 42);
    assert_int_equal(head()->module_epoch, epoch + 1);
}

/* ---- threads, children, memory ---- */

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

static int find_build(void **state)
{
    (void)state;
    ssize_t n = readlink("/proc/self/exe", build, sizeof build - 1);
    if (n <= 0)
        return -1;
    build[n] = 0;
    for (int up = 0; up < 3; up++) { /* tests/unit/test_agent_blob */
        char *slash = strrchr(build, '/');
        if (!slash)
            return -1;
        *slash = 0;
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(image_needs_nothing, fresh, away),
        cmocka_unit_test_setup_teardown(follows_exactly, fresh, away),
        cmocka_unit_test_setup_teardown(starts_again_with_nothing_of_before, fresh, away),
        cmocka_unit_test_setup_teardown(sampled_objects_are_glibcs_own, fresh, away),
        cmocka_unit_test_setup_teardown(a_wrong_release_is_glibcs_to_judge, fresh, away),
        cmocka_unit_test_setup_teardown(slots_are_used_again, fresh, away),
        cmocka_unit_test_setup_teardown(mappings_are_bounded, fresh, away),
        cmocka_unit_test_setup_teardown(sets_share_a_tape, fresh, away),
        cmocka_unit_test_setup_teardown(another_allocators_objects_keep_their_hooks, fresh, away),
        cmocka_unit_test_setup_teardown(new_and_dlclose, fresh, away),
        cmocka_unit_test_setup_teardown(filters_are_seen, fresh, away),
        cmocka_unit_test_setup_teardown(threads_outlive_a_recording, fresh, away),
        cmocka_unit_test_setup_teardown(children_have_tapes, fresh, away),
        cmocka_unit_test_setup_teardown(memory_is_given_back, fresh, away),
    };
    return cmocka_run_group_tests(tests, find_build, NULL);
}
