/* SPDX-License-Identifier: Apache-2.0 */
/* The image of a core file, as the kernel (core(5)) or gdb's gcore writes it: the file is mapped
 * and its PT_LOAD segments are the ranges; NT_FILE names modules, NT_PRSTATUS the threads. What a
 * core leaves out because it stands in a module's file is taken from there if the build-ids agree;
 * the rest counts as unread. A core can come from anywhere, so every number in it is checked.
 * Start: tt_heap_image_core. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/procfs.h>
#include <sys/stat.h>
#include <unistd.h>

#include "heap/internal_image.h"
#include "proc/proc.h"

#define ADDRESS_END (1ull << 47)

struct file_entry {
    uint64_t start, end, offset;
    const char *path;
};
struct piece {
    void *memory;
    size_t size;
};
struct core {
    uint8_t *bytes; /* the whole file */
    size_t size;
    size_t taken; /* bytes of the file that segments were made of */
    char *paths;
    char *exe;
    uint64_t program; /* an address in the program: AT_PHDR */
    TT_VEC(struct file_entry) files;
    TT_VEC(struct piece) pieces; /* what was mapped besides */
};

static void core_free(struct tt_heap_image *image)
{
    struct core *c = image->owned;
    for (size_t i = 0; i < c->pieces.len; i++)
        munmap(c->pieces.data[i].memory, c->pieces.data[i].size);
    if (c->bytes)
        munmap(c->bytes, c->size);
    tt_vec_free(&c->pieces);
    tt_vec_free(&c->files);
    free(c->paths);
    free(c->exe);
    free(c);
}

/* ---- notes ---- */

static uint64_t word(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

/* NT_FILE: count, page size, {start, end, offset in pages} each, then the names. */
static int take_files(struct core *c, const uint8_t *at, size_t n)
{
    if (n < 16 || c->paths)
        return 0;
    uint64_t count = word(at), page = word(at + 8);
    if (count > (n - 16) / 24 || page == 0 || page > 1 << 30)
        return 0;
    size_t names = n - 16 - count * 24;
    c->paths = malloc(names + 1);
    if (!c->paths)
        return -ENOMEM;
    memcpy(c->paths, at + 16 + count * 24, names);
    c->paths[names] = '\0';
    const char *path = c->paths, *end = c->paths + names;
    for (uint64_t i = 0; i < count && path < end; i++) {
        const uint8_t *e = at + 16 + i * 24;
        if (tt_vec_push(&c->files,
                        (struct file_entry){word(e), word(e + 8), word(e + 16) * page, path}))
            return -ENOMEM;
        path += strlen(path) + 1;
    }
    return 0;
}

static int take_thread(struct tt_heap_image *image, const uint8_t *at, size_t n)
{
    struct elf_prstatus status;
    struct tt_heap_thread thread;
    if (n < sizeof status)
        return 0;
    memcpy(&status, at, sizeof status);
    thread.tid = status.pr_pid;
    _Static_assert(sizeof thread.regs == sizeof status.pr_reg, "registers as ptrace gives them");
    memcpy(&thread.regs, &status.pr_reg, sizeof thread.regs);
    return tt_vec_push(&image->threads, thread);
}

static int take_notes(struct tt_heap_image *image, struct core *c, Elf *elf, const GElf_Phdr *ph)
{
    Elf_Data *data = elf_getdata_rawchunk(elf, (int64_t)ph->p_offset, ph->p_filesz,
                                          ph->p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR);
    size_t at = 0, name, desc;
    GElf_Nhdr nh;
    int rc = 0;
    while (rc == 0 && data && (at = gelf_getnote(data, at, &nh, &name, &desc)) > 0) {
        const uint8_t *bytes = (const uint8_t *)data->d_buf + desc;
        bool core = nh.n_namesz >= 4 && memcmp((const char *)data->d_buf + name, "CORE", 4) == 0;
        if (!core)
            continue;
        if (nh.n_type == NT_PRSTATUS)
            rc = take_thread(image, bytes, nh.n_descsz);
        else if (nh.n_type == NT_FILE)
            rc = take_files(c, bytes, nh.n_descsz);
        else if (nh.n_type == NT_AUXV)
            for (size_t i = 0; i + 16 <= nh.n_descsz; i += 16)
                c->program = word(bytes + i) == AT_PHDR ? word(bytes + i + 8) : c->program;
    }
    return rc;
}

/* ---- segments ---- */

static const struct file_entry *file_at(const struct core *c, uint64_t address)
{
    for (size_t i = 0; i < c->files.len; i++)
        if (address >= c->files.data[i].start && address < c->files.data[i].end)
            return &c->files.data[i];
    return NULL;
}

/* The core does not say what was shared; these names do. */
static bool is_shared(const char *path)
{
    static const char *const starts[] = {"/dev/shm/", "/memfd:", "/dev/zero", "/SYSV",
                                         "anon_inode:"};
    const char *name = strrchr(path, '/');
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (strncmp(path, starts[i], strlen(starts[i])) == 0)
            return true;
    return name && strncmp(name, "/tape.", 6) == 0;
}

static int add_range(struct tt_heap_image *image, struct core *c, const GElf_Phdr *ph)
{
    uint64_t end = ph->p_vaddr + ph->p_memsz, there = 0;
    if (ph->p_memsz == 0 || end < ph->p_vaddr || end > ADDRESS_END)
        return 0;
    const struct file_entry *file = file_at(c, ph->p_vaddr);
    struct tt_heap_range r = {.start = ph->p_vaddr,
                              .end = end,
                              .path = file ? file->path : "",
                              .file_offset = file ? file->offset + (ph->p_vaddr - file->start) : 0,
                              .kind = file && is_shared(file->path) ? TT_HEAP_SHARED : TT_HEAP_ANON,
                              .write = (ph->p_flags & PF_W) != 0,
                              .exec = (ph->p_flags & PF_X) != 0};
    if (ph->p_offset < c->size) {
        there = c->size - ph->p_offset;
        there = there < ph->p_filesz ? there : ph->p_filesz;
        there = there < ph->p_memsz ? there : ph->p_memsz;
    }
    /* Segments that share bytes could make memory without end of a small file (align below). */
    if (there > c->size - c->taken)
        return -ENOEXEC;
    c->taken += there;
    if (there) {
        r.end = r.start + there;
        r.bytes = c->bytes + ph->p_offset;
        if (tt_vec_push(&image->ranges, r))
            return -ENOMEM;
        r.file_offset += there;
    }
    r.start += there;
    r.end = end;
    r.bytes = NULL;
    return r.start < r.end ? tt_vec_push(&image->ranges, r) : 0;
}

static int by_start(const void *a, const void *b)
{
    const struct tt_heap_range *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

static bool disjoint(struct tt_heap_image *image)
{
    struct tt_heap_range *r = image->ranges.data;
    if (image->ranges.len)
        qsort(r, image->ranges.len, sizeof *r, by_start);
    for (size_t i = 1; i < image->ranges.len; i++)
        if (r[i].start < r[i - 1].end)
            return false;
    return true;
}

static int read_core(void *arg, uint64_t address, void *out, size_t n)
{
    const uint8_t *at = tt_heap_bytes(arg, address, n);
    if (at)
        memcpy(out, at, n);
    return at ? 0 : -EFAULT;
}

/* ---- what the core left out ---- */

/* The build-id in the module's first page, as hex; "" when it is not there. */
static void build_id_of(const struct tt_heap_image *image, uint64_t base,
                        char out[TT_PROC_BUILD_ID])
{
    Elf64_Ehdr eh;
    Elf64_Phdr ph;
    const uint8_t *at = tt_heap_bytes(image, base, sizeof eh);
    out[0] = '\0';
    if (!at)
        return;
    memcpy(&eh, at, sizeof eh);
    if (memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0 || eh.e_phentsize != sizeof ph ||
        eh.e_phoff > 4096)
        return;
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        at = tt_heap_bytes(image, base + eh.e_phoff + i * sizeof ph, sizeof ph);
        if (!at)
            return;
        memcpy(&ph, at, sizeof ph);
        if (ph.p_type != PT_NOTE || ph.p_filesz > 4096 || ph.p_offset > 1 << 20)
            continue;
        const uint8_t *notes = tt_heap_bytes(image, base + ph.p_offset, ph.p_filesz);
        for (size_t n = 0; notes && n + sizeof(Elf64_Nhdr) <= ph.p_filesz;) {
            Elf64_Nhdr nh;
            memcpy(&nh, notes + n, sizeof nh);
            size_t name = n + sizeof nh, desc = name + ((nh.n_namesz + 3ull) & ~3ull);
            if (nh.n_namesz > 64 || nh.n_descsz > 4096 || desc + nh.n_descsz > ph.p_filesz)
                break;
            if (nh.n_type == NT_GNU_BUILD_ID && nh.n_namesz == 4 &&
                memcmp(notes + name, "GNU", 4) == 0 && nh.n_descsz * 2 < TT_PROC_BUILD_ID) {
                for (size_t k = 0; k < nh.n_descsz; k++)
                    snprintf(out + 2 * k, 3, "%02x", notes[desc + k]);
                return;
            }
            n = desc + ((nh.n_descsz + 3ull) & ~3ull);
        }
    }
}

static const struct file_entry *beginning_of(const struct core *c, const char *path)
{
    for (size_t i = 0; i < c->files.len; i++)
        if (c->files.data[i].offset == 0 && strcmp(c->files.data[i].path, path) == 0)
            return &c->files.data[i];
    return NULL;
}

/* Whether the program that was named is the one that dumped: by the build-id that the core holds.
 */
static int check_program(const struct tt_heap_image *image, const struct core *c, const char *core,
                         struct tt_error *err)
{
    char there[TT_PROC_BUILD_ID] = "", here[TT_PROC_BUILD_ID] = "";
    const struct file_entry *file = file_at(c, c->program),
                            *first = file ? beginning_of(c, file->path) : NULL;
    if (!c->exe || !first)
        return 0;
    build_id_of(image, first->start, there);
    int fd = open(c->exe, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd >= 0) {
        tt_proc_build_id(fd, here);
        close(fd);
    }
    if (!there[0] || strcmp(here, there) == 0)
        return 0;
    return tt_error_set(err, -EINVAL,
                        "%s is not the program that dumped %s: its build-id is %s, and the core's "
                        "(%s) %s; name that one with --exe",
                        c->exe, core, here[0] ? here : "missing", file->path, there);
}

/* Maps the range's bytes from its module's file. */
static void fill_from_file(struct tt_heap_image *image, struct core *c, struct tt_heap_range *r)
{
    const struct file_entry *first = beginning_of(c, r->path);
    char there[TT_PROC_BUILD_ID], here[TT_PROC_BUILD_ID] = "";
    struct stat st;
    bool program = first && c->exe && c->program >= first->start && c->program < first->end;
    uint64_t size = r->end - r->start;
    if (!first || (r->file_offset & 4095))
        return;
    build_id_of(image, first->start, there);
    int fd = open(program ? c->exe : r->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return;
    if (there[0] && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && tt_proc_build_id(fd, here) == 0 &&
        strcmp(here, there) == 0 && r->file_offset < (uint64_t)st.st_size &&
        size <= (uint64_t)st.st_size - r->file_offset) {
        void *memory = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, (off_t)r->file_offset);
        if (memory != MAP_FAILED) {
            if (tt_vec_push(&c->pieces, (struct piece){memory, size}))
                munmap(memory, size);
            else
                r->bytes = memory;
        }
    }
    close(fd);
}

/* gdb does not align segments in the file; the words of a range must be aligned. */
static int align(struct core *c, struct tt_heap_range *r)
{
    size_t size = r->end - r->start;
    if ((((uintptr_t)r->bytes - r->start) & 7) == 0)
        return 0;
    void *memory = mmap(NULL, size + 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    if (tt_vec_push(&c->pieces, (struct piece){memory, size + 8})) {
        munmap(memory, size + 8);
        return -ENOMEM;
    }
    uint8_t *to = (uint8_t *)memory + (r->start & 7);
    memcpy(to, r->bytes, size);
    r->bytes = to;
    return 0;
}

static int finish(struct tt_heap_image *image, struct core *c)
{
    /* first, as long as the pages that hold build-ids are there: they count as code */
    for (size_t i = 0; i < image->ranges.len; i++) {
        struct tt_heap_range *r = &image->ranges.data[i];
        if (!r->bytes && r->kind == TT_HEAP_DATA && r->path[0] == '/')
            fill_from_file(image, c, r);
    }
    for (size_t i = 0; i < image->ranges.len; i++) {
        struct tt_heap_range *r = &image->ranges.data[i];
        if (r->kind == TT_HEAP_TEXT || r->kind == TT_HEAP_OURS)
            r->bytes = NULL;
        if (r->bytes && align(c, r))
            return -ENOMEM;
        if (r->bytes)
            image->read_bytes += r->end - r->start;
        else if (r->write && r->kind != TT_HEAP_OURS)
            image->unread_bytes += r->end - r->start;
        const struct file_entry *f = file_at(c, c->program);
        if (c->exe && f && strcmp(f->path, r->path) == 0)
            r->path = c->exe;
    }
    return 0;
}

/* ---- all of it ---- */

static int check_header(Elf *elf, const char *core, struct tt_error *err)
{
    GElf_Ehdr eh;
    if (!elf || elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &eh))
        return tt_error_set(err, -ENOEXEC, "%s is not a core file", core);
    if (eh.e_type != ET_CORE)
        return tt_error_set(err, -ENOEXEC, "%s is an ELF file but not a core file", core);
    if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_ident[EI_DATA] != ELFDATA2LSB ||
        eh.e_machine != EM_X86_64)
        return tt_error_set(err, -ENOTSUP,
                            "%s is the core of another machine; only 64-bit x86 is understood",
                            core);
    return 0;
}

static int take(struct tt_heap_image *image, struct core *c, Elf *elf, const char *core,
                struct tt_error *err)
{
    size_t n = 0;
    GElf_Phdr ph;
    int rc = check_header(elf, core, err);
    if (rc)
        return rc;
    if (elf_getphdrnum(elf, &n) || n == 0)
        return tt_error_set(err, -ENOEXEC, "%s has no program headers: it is truncated", core);
    for (size_t i = 0; i < n && rc == 0; i++)
        if (!gelf_getphdr(elf, (int)i, &ph))
            return tt_error_set(err, -ENOEXEC, "the program headers of %s are truncated", core);
        else if (ph.p_type == PT_NOTE && ph.p_offset < c->size &&
                 ph.p_filesz <= c->size - ph.p_offset)
            rc = take_notes(image, c, elf, &ph);
    for (size_t i = 0; i < n && rc == 0; i++)
        if (gelf_getphdr(elf, (int)i, &ph) && ph.p_type == PT_LOAD)
            rc = add_range(image, c, &ph);
    if (rc)
        return tt_error_set(err, rc,
                            rc == -ENOEXEC ? "segments of %s overlap: it is damaged"
                                           : "no memory to read %s",
                            core);
    if (image->threads.len == 0)
        return tt_error_set(err, -ENOEXEC,
                            "%s holds no thread's registers: it is truncated or not "
                            "a process's core",
                            core);
    if (!disjoint(image))
        return tt_error_set(err, -ENOEXEC, "segments of %s overlap: it is damaged", core);
    if ((rc = check_program(image, c, core, err)) != 0)
        return rc;
    rc = tt_heap_image_classify(image, read_core, image);
    if (rc == 0)
        rc = finish(image, c);
    if (rc)
        return tt_error_set(err, rc, "no memory to read %s", core);
    if (image->read_bytes == 0)
        return tt_error_set(err, -ENODATA,
                            "%s holds no memory: write it with "
                            "/proc/PID/coredump_filter 0x33 or more",
                            core);
    return 0;
}

int tt_heap_image_core(const char *core, const char *exe, struct tt_heap_image *out,
                       struct tt_error *err)
{
    struct stat st;
    Elf *elf = NULL;
    int rc = 0;
    *out = (struct tt_heap_image){0};
    struct core *c = calloc(1, sizeof *c);
    if (!c)
        return tt_error_set(err, -ENOMEM, "out of memory");
    out->owned = c;
    out->free = core_free;
    int fd = open(core, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        rc = tt_error_sys(err, -errno, "cannot open core file %s", core);
        goto out;
    }
    if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(Elf64_Ehdr)) {
        rc = tt_error_set(err, -ENOEXEC, "%s is not a core file", core);
        goto out;
    }
    if (exe && !(c->exe = realpath(exe, NULL))) {
        rc = tt_error_sys(err, -errno, "cannot find the program %s", exe);
        goto out;
    }
    c->size = (size_t)st.st_size;
    void *bytes = mmap(NULL, c->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED) {
        rc = tt_error_sys(err, -errno, "cannot map core file %s", core);
        goto out;
    }
    c->bytes = bytes;
    elf_version(EV_CURRENT);
    elf = elf_begin(fd, ELF_C_READ, NULL);
    rc = take(out, c, elf, core, err);
out:
    if (elf)
        elf_end(elf);
    if (fd >= 0)
        close(fd);
    if (rc)
        tt_heap_image_free(out);
    return rc;
}
