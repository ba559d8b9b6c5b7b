/* SPDX-License-Identifier: Apache-2.0 */
/* Inject's part and the recorder's for tests of the blob. Start: load. */
#include "test_agent_blob_host.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

#include "agent/region.h"
#include "test_build.h"

uint8_t *image;
struct tt_blob *blob;
const uint8_t *tape;
static size_t image_bytes, tape_bytes;

/* ---- inject's part ---- */

const void *read_blob(size_t *bytes)
{
    char path[300];
    struct stat st;
    build_path(path, sizeof path, "src/agent/telltale-agent.blob");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    void *file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_true(file != MAP_FAILED);
    close(fd);
    *bytes = (size_t)st.st_size;
    return file;
}

const Elf64_Shdr *section(const uint8_t *file, uint32_t type)
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

int order(uint32_t what)
{
    blob->call.what = what;
    blob->call.result = -1;
    enter();
    return blob->call.result;
}

void unmap_tape(void)
{
    if (tape)
        munmap((void *)(uintptr_t)tape, tape_bytes);
    tape = NULL;
}

int start_with(uint32_t mode, uint64_t mean)
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

void forget_thread(void)
{
    __asm__ volatile("movq $0,%%fs:0x38\n\tmovq $0,%%fs:0x40" : : : "memory");
}

int fresh(void **state)
{
    (void)state;
    munmap((void *)TT_REGION_BASE, TT_REGION_BYTES);
    forget_thread();
    load();
    use_glibc();
    return 0;
}

int away(void **state)
{
    (void)state;
    unmap_tape();
    forget_thread();
    return 0;
}

uint64_t call(uint32_t set, uint32_t entry, uint64_t a, uint64_t b, uint64_t c)
{
    union {
        uint8_t *at;
        tt_real_fn *fn;
    } to = {image + blob->entry[set][entry]};
    return to.fn(a, b, c);
}

__attribute__((noinline)) uint64_t make(uint64_t size)
{
    uint64_t block = call(0, TT_E_MALLOC, size, 0, 0);
    __asm__ volatile("" : "+r"(block));
    return block;
}

void drop(uint64_t block)
{
    call(0, TT_E_FREE, block, 0, 0);
}

/* ---- the recorder's part ---- */

const struct tt_tape_head *head(void)
{
    return (const void *)tape;
}

struct sum count(void)
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

void expect(uint64_t births, uint64_t deaths)
{
    struct sum sum = count();
    assert_int_equal(sum.births, births);
    assert_int_equal(sum.deaths, deaths);
    assert_int_equal(sum.live, births - deaths);
}

int in_region(uint64_t block)
{
    return tt_region_holds(block);
}
