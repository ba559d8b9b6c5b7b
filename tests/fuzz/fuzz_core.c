/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a core file: its segments and notes are read, the heap in it is walked and searched,
 * as `telltale snapshot --core` does. Examples are made from a live shell, which has a heap, an
 * arena, modules and a thread: a core is written of it, then words of its headers and notes, or of
 * its memory, are set to what parsers trip over. Start: LLVMFuzzerTestOneInput. */
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/procfs.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"
#include "heap/heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char path[64];
    int fd = memfd_create("core", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct tt_heap_image image;
    struct tt_error err = {0};
    const struct tt_heap_options options = {.threads = 1};
    if (tt_heap_image_core(path, NULL, &image, &err) == 0) {
        struct tt_heap_result result;
        if (tt_heap_search(&image, &options, NULL, NULL, &result, &err) == 0)
            tt_heap_result_free(&result);
        tt_heap_image_free(&image);
    }
    close(fd);
    return 0;
}

/* ---- a core of a live process ---- */

#define MAPS 64u
#define CORE_BYTES (2u << 20)
#define PIECE_BYTES (256u << 10) /* of one mapping */

struct core {
    uint8_t *bytes;
    size_t n, memory; /* headers and notes end, memory begins */
    Elf64_Phdr ph[MAPS];
    unsigned n_ph;
    uint64_t files[MAPS][3];
    char names[MAPS][256];
    unsigned n_files;
};

static void put(struct core *c, const void *bytes, size_t n)
{
    if (c->n + n > CORE_BYTES)
        abort();
    memcpy(c->bytes + c->n, bytes, n);
    c->n += n;
}

static void note(struct core *c, uint32_t type, const void *desc, size_t n)
{
    static const uint8_t zero[4];
    Elf64_Nhdr nh = {5, (uint32_t)n, type};
    put(c, &nh, sizeof nh);
    put(c, "CORE\0\0\0", 8);
    put(c, desc, n);
    put(c, zero, (4 - n % 4) % 4);
}

static void list_maps(struct core *c, pid_t pid)
{
    char path[64], line[512], mode[8];
    unsigned long long start, end, offset, inode;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f) && c->n_ph < MAPS - 1) {
        char name[256] = "";
        if (sscanf(line, "%llx-%llx %7s %llx %*x:%*x %llu %255s", &start, &end, mode, &offset,
                   &inode, name) < 5 ||
            strncmp(name, "[v", 2) == 0)
            continue;
        uint64_t there = mode[1] == 'w' && end - start <= PIECE_BYTES ? end - start
                         : inode && offset == 0                       ? 4096
                                                                      : 0;
        c->ph[c->n_ph++] = (Elf64_Phdr){
            .p_type = PT_LOAD,
            .p_flags = (mode[0] == 'r' ? PF_R : 0u) | (mode[1] == 'w' ? PF_W : 0u) |
                       (mode[2] == 'x' ? PF_X : 0u),
            .p_vaddr = start,
            .p_filesz = there,
            .p_memsz = end - start,
            .p_align = 4096,
        };
        if (!inode)
            continue;
        c->files[c->n_files][0] = start;
        c->files[c->n_files][1] = end;
        c->files[c->n_files][2] = offset / 4096;
        memcpy(c->names[c->n_files++], name, sizeof name);
    }
    if (f)
        fclose(f);
}

static void put_notes(struct core *c, pid_t pid)
{
    char path[64];
    static uint8_t buffer[16 + MAPS * (24 + 256)];
    struct elf_prstatus status = {.pr_pid = pid};
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, pid, 0, &regs) != 0)
        abort();
    memcpy(&status.pr_reg, &regs, sizeof regs);
    note(c, NT_PRSTATUS, &status, sizeof status);
    uint64_t head[2] = {c->n_files, 4096};
    size_t n = sizeof head;
    memcpy(buffer, head, n);
    memcpy(buffer + n, c->files, c->n_files * sizeof *c->files);
    n += c->n_files * sizeof *c->files;
    for (unsigned i = 0; i < c->n_files; i++) {
        memcpy(buffer + n, c->names[i], strlen(c->names[i]) + 1);
        n += strlen(c->names[i]) + 1;
    }
    note(c, NT_FILE, buffer, n);
    snprintf(path, sizeof path, "/proc/%d/auxv", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = read(fd, buffer, sizeof buffer);
    close(fd);
    if (got > 0)
        note(c, NT_AUXV, buffer, (size_t)got);
}

static void dump(struct core *c, pid_t pid)
{
    char path[64];
    list_maps(c, pid);
    Elf64_Ehdr eh = {.e_type = ET_CORE,
                     .e_machine = EM_X86_64,
                     .e_version = EV_CURRENT,
                     .e_phoff = sizeof eh,
                     .e_ehsize = sizeof eh,
                     .e_phentsize = sizeof *c->ph,
                     .e_phnum = (Elf64_Half)(c->n_ph + 1)};
    memcpy(eh.e_ident, ELFMAG, SELFMAG);
    eh.e_ident[EI_CLASS] = ELFCLASS64;
    eh.e_ident[EI_DATA] = ELFDATA2LSB;
    eh.e_ident[EI_VERSION] = EV_CURRENT;
    put(c, &eh, sizeof eh);
    size_t heads = c->n;
    c->n += (c->n_ph + 1) * sizeof *c->ph;
    Elf64_Phdr notes = {.p_type = PT_NOTE, .p_offset = c->n, .p_align = 4};
    put_notes(c, pid);
    notes.p_filesz = c->n - notes.p_offset;
    c->n = c->memory = (c->n + 4095) & ~(size_t)4095;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (unsigned i = 0; i < c->n_ph; i++) {
        c->ph[i].p_offset = c->n;
        if (c->n + c->ph[i].p_filesz > CORE_BYTES ||
            pread(fd, c->bytes + c->n, c->ph[i].p_filesz, (off_t)c->ph[i].p_vaddr) !=
                (ssize_t)c->ph[i].p_filesz)
            c->ph[i].p_filesz = 0;
        c->n += c->ph[i].p_filesz;
    }
    close(fd);
    memcpy(c->bytes + heads, &notes, sizeof notes);
    memcpy(c->bytes + heads + sizeof notes, c->ph, c->n_ph * sizeof *c->ph);
}

/* A shell that has set and unset some variables and waits for a line; without randomization, so
 * that one machine always makes the same core. */
#define SCRIPT                                                                                     \
    "i=0; while [ $i -lt 300 ]; do eval v$i=$i$i$i$i$i; i=$((i+1)); done;"                         \
    "i=0; while [ $i -lt 300 ]; do unset v$i; i=$((i+3)); done; echo; read line"

static bool take_core(struct core *c)
{
    int in[2], out[2], status;
    char byte;
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        personality(ADDR_NO_RANDOMIZE);
        dup2(in[0], 0);
        dup2(out[1], 1);
        execle("/bin/sh", "sh", "-c", SCRIPT, (char *)NULL, (char *[]){NULL});
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    bool ok = pid > 0 && read(out[0], &byte, 1) == 1 && ptrace(PTRACE_ATTACH, pid, 0, 0) == 0 &&
              waitpid(pid, &status, 0) == pid;
    if (ok)
        dump(c, pid);
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
    }
    close(in[1]);
    close(out[0]);
    return ok;
}

/* ---- what parsers trip over ---- */

static uint64_t state;
static uint64_t next(uint64_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
    return (state >> 33) % below;
}

/* A word of [from, to) becomes an edge, another word, or itself and a little. */
static void spoil(uint8_t *data, size_t from, size_t to)
{
    static const uint64_t edges[] = {0,          1,          7,          8,
                                     16,         0x7fffffff, 0xffffffff, 1ull << 32,
                                     1ull << 47, ~0ull,      ~0ull - 7,  1ull << 63};
    size_t words = (to - from) / 8;
    uint8_t *at = data + from + 8 * next(words);
    uint64_t word;
    memcpy(&word, at, 8);
    switch (next(4)) {
    case 0:
        word = edges[next(sizeof edges / sizeof *edges)];
        break;
    case 1:
        memcpy(&word, data + from + 8 * next(words), 8);
        break;
    case 2:
        word += 8 * next(5) - 16;
        break;
    default:
        word ^= 1ull << next(64);
        break;
    }
    memcpy(at, &word, 8);
}

uint8_t *fuzz_example(unsigned k, size_t *n)
{
    static struct core c;
    if (!c.bytes && (!(c.bytes = calloc(1, CORE_BYTES)) || !take_core(&c)))
        return NULL;
    uint8_t *data = malloc(c.n);
    if (!data)
        return NULL;
    memcpy(data, c.bytes, c.n);
    state = k;
    for (uint64_t times = k % 16 ? 1 + next(6) : 0; times; times--) {
        bool memory = next(2);
        spoil(data, memory ? c.memory : 0, memory ? c.n : c.memory);
    }
    *n = c.n;
    return data;
}

#ifdef TT_LIBFUZZER
/* libFuzzer mutates a stretch of 4 KiB, not the whole: most of it is memory. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed)
{
    if (n < 4096) {
        uint8_t *example = max >= CORE_BYTES ? fuzz_example(seed, &n) : NULL;
        if (!example)
            return LLVMFuzzerMutate(data, n, max);
        memcpy(data, example, n);
        free(example);
        return n;
    }
    state = seed;
    size_t head = n < 16384 ? n : 16384;
    for (uint64_t times = 1 + next(4); times; times--)
        switch (next(4)) {
        case 0:
            spoil(data, 0, head);
            break;
        case 1:
            LLVMFuzzerMutate(data + next(head - 64), 64, 64);
            break;
        case 2:
            LLVMFuzzerMutate(data + next(n - 64), 64, 64);
            break;
        default:
            spoil(data, 0, n);
            break;
        }
    return n;
}
#endif
