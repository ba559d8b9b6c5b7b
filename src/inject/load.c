/* SPDX-License-Identifier: Apache-2.0 */
/* Bringing the blob into memory: one mapping below libc that holds image, island (moved first
 * instructions) and pad (stubs of counted operations), one more below the executable where that is
 * out of a jump's reach. The blob needs no relocation, so its segments are written as they are,
 * through /proc/PID/mem, which also writes to pages mapped read and execute only. A blob once used
 * is never unmapped, since a thread may be inside; the next attach of the same build takes it
 * again. Start: tt_load_map. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/map.h"
#include "inject/load.h"

#define PAGE 4096ULL
#define FILE_MOST (16u << 20)
#define ISLAND_BYTES 0x4000u
#define PAD_BYTES 0x10000u
#define REACH 0x7f000000ULL
#define LOWEST 0x10000ULL /* vm.mmap_min_addr */

static uint64_t up(uint64_t x)
{
    return (x + PAGE - 1) & ~(PAGE - 1);
}

bool tt_load_reaches(uint64_t from, uint64_t to)
{
    return (from > to ? from - to : to - from) < REACH;
}

/* ---- the file ---- */

static int copy_segments(Elf *elf, const uint8_t *file, size_t n, struct tt_load_file *out)
{
    size_t count = 0;
    elf_getphdrnum(elf, &count);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < count; i++) {
            GElf_Phdr ph;
            if (!gelf_getphdr(elf, (int)i, &ph) || ph.p_type != PT_LOAD)
                continue;
            if (ph.p_filesz > n || ph.p_offset > n - ph.p_filesz || ph.p_memsz < ph.p_filesz ||
                ph.p_memsz > FILE_MOST || ph.p_vaddr > FILE_MOST)
                return -ENOEXEC;
            uint64_t end = ph.p_vaddr + ph.p_memsz;
            if (pass) {
                memcpy(out->image + ph.p_vaddr, file + ph.p_offset, ph.p_filesz);
                continue;
            }
            out->size = up(end) > out->size ? up(end) : out->size;
            if (ph.p_flags & PF_W) {
                uint64_t start = ph.p_vaddr & ~(PAGE - 1);
                if (!out->data_end || start < out->data_start)
                    out->data_start = start;
                out->data_end = up(end) > out->data_end ? up(end) : out->data_end;
            }
        }
        if (!pass && (!out->size || !(out->image = calloc(1, out->size))))
            return out->size ? -ENOMEM : -ENOEXEC;
    }
    return 0;
}

static void find_symbol(Elf *elf, struct tt_load_file *out)
{
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(elf, scn)) != NULL;) {
        GElf_Shdr sh;
        if (!gelf_getshdr(scn, &sh) || (sh.sh_type != SHT_SYMTAB && sh.sh_type != SHT_DYNSYM))
            continue;
        Elf_Data *data = elf_getdata(scn, NULL);
        for (size_t i = 0; data && i < data->d_size / sizeof(Elf64_Sym); i++) {
            GElf_Sym s;
            const char *name =
                gelf_getsym(data, (int)i, &s) ? elf_strptr(elf, sh.sh_link, s.st_name) : NULL;
            if (name && s.st_shndx != SHN_UNDEF && strcmp(name, "tt_blob") == 0 &&
                (!s.st_size || s.st_size == sizeof(struct tt_blob)))
                out->at = s.st_value;
        }
    }
}

static int read_file(const uint8_t *file, size_t n, struct tt_load_file *out)
{
    elf_version(EV_CURRENT);
    /* elf_memory(3) does not write to what it is given here: nothing is updated. */
    Elf *elf = elf_memory((char *)(uintptr_t)file, n);
    int code = elf ? copy_segments(elf, file, n, out) : -ENOEXEC;
    if (code == 0)
        find_symbol(elf, out);
    elf_end(elf);
    if (code)
        return code;
    const struct tt_blob *b = (const struct tt_blob *)(out->image + out->at);
    if (!out->at || out->at % 8 || out->at < out->data_start ||
        out->at + sizeof *b > out->data_end || b->magic != TT_BLOB_MAGIC ||
        b->version != TT_BLOB_VERSION || b->text_end > out->size || b->enter >= b->text_end)
        return -ENOEXEC;
    snprintf(out->build, sizeof out->build, "%016lx", (unsigned long)tt_map_hash(file, n));
    return 0;
}

int tt_load_file(const char *path, struct tt_load_file *out, struct tt_error *err)
{
    struct stat st;
    *out = (struct tt_load_file){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return tt_error_sys(err, -errno, "cannot open the agent's blob %s", path);
    int code = -ENOEXEC;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && st.st_size <= FILE_MOST) {
        size_t n = (size_t)st.st_size;
        uint8_t *file = malloc(n);
        code = !file                                 ? -ENOMEM
               : pread(fd, file, n, 0) != (ssize_t)n ? -EIO
                                                     : read_file(file, n, out);
        free(file);
    }
    close(fd);
    if (code == 0)
        return 0;
    tt_load_file_free(out);
    return tt_error_set(
        err, code, "%s is not a blob of this version of the agent: install telltale again", path);
}

void tt_load_file_free(struct tt_load_file *file)
{
    free(file->image);
    *file = (struct tt_load_file){0};
}

/* ---- one that is there ---- */

static bool anonymous(const struct tt_target *t, const struct tt_proc_map *m)
{
    const char *path = tt_proc_map_path(&t->maps, m);
    return !m->inode && !m->shared && (*path == '\0' || strncmp(path, "[anon:", 6) == 0);
}

static bool is_blob(const struct tt_target *t, uint64_t base, uint64_t at, struct tt_load *out)
{
    if (tt_target_read(t, at, &out->head, TT_LOAD_HEAD) || out->head.magic != TT_BLOB_MAGIC ||
        out->head.version != TT_BLOB_VERSION || out->head.base != base ||
        out->head.size < at - base || out->head.patch_count > TT_BLOB_PATCHES ||
        out->head.text_end > out->head.size)
        return false;
    out->base = base;
    out->at = at;
    return true;
}

static bool in_force(const struct tt_blob *b)
{
    bool active = b->attached != 0;
    for (uint32_t i = 0; i < b->patch_count; i++)
        active |= b->patch[i].active != 0;
    return active;
}

int tt_load_find(const struct tt_target *target, const char *build, struct tt_load *out)
{
    const struct tt_proc_map *maps = target->maps.maps.data;
    int best = 0;
    for (size_t i = 1; i < target->maps.maps.len; i++) {
        const struct tt_proc_map *text = &maps[i - 1], *data = &maps[i];
        uint64_t n = data->end - data->start;
        if (!text->exec || text->write || !data->write || data->exec || text->end != data->start ||
            n > FILE_MOST || !anonymous(target, text) || !anonymous(target, data))
            continue;
        uint64_t *words = malloc(n);
        struct tt_load load;
        bool found = false;
        if (words && tt_target_read(target, data->start, words, n) == 0)
            for (uint64_t w = 0; w < n / 8 && !found; w++)
                found = words[w] == TT_BLOB_MAGIC &&
                        is_blob(target, text->start, data->start + 8 * w, &load);
        free(words);
        int rank = !found                                                         ? 0
                   : in_force(&load.head)                                         ? 3
                   : strncmp(load.head.build, build, sizeof load.head.build) == 0 ? 2
                                                                                  : 1;
        if (rank > best) {
            best = rank;
            *out = load;
        }
    }
    return best ? 0 : -ENOENT;
}

int tt_load_put(const struct tt_target *target, const struct tt_load *load, const void *part,
                size_t n)
{
    size_t offset = (size_t)((const uint8_t *)part - (const uint8_t *)&load->head);
    return tt_target_write(target, load->at + offset, part, n);
}

int tt_load_record(const struct tt_target *target, struct tt_load *load,
                   const struct tt_blob_patch *record)
{
    struct tt_blob *b = &load->head;
    uint32_t i = 0;
    while (i < b->patch_count && (b->patch[i].active || b->patch[i].address != record->address))
        i++;
    if (i >= TT_BLOB_PATCHES)
        return -ENOSPC;
    b->patch[i] = *record;
    b->patch[i].active = 1;
    int code = tt_load_put(target, load, &b->patch[i], sizeof b->patch[i]);
    if (code || i < b->patch_count)
        return code;
    b->patch_count = i + 1;
    return tt_load_put(target, load, &b->patch_count, sizeof b->patch_count);
}

int tt_load_use(const struct tt_target *target, struct tt_load *load, uint64_t end)
{
    for (size_t i = 0; i < TT_BLOB_ISLANDS; i++) {
        struct tt_blob_island *is = &load->head.island[i];
        if (end > is->base && end - is->base <= is->size && end - is->base > is->used) {
            is->used = end - is->base;
            return tt_load_put(target, load, is, sizeof *is);
        }
    }
    return 0;
}

/* ---- a place ---- */

/* The highest free range of `size` bytes below `limit`, a page away from its neighbours so that
 * they do not grow together; 0 none. */
static uint64_t gap_below(const struct tt_target *t, uint64_t limit, uint64_t size)
{
    uint64_t end = limit - PAGE;
    for (size_t i = t->maps.maps.len; i > 0; i--) {
        const struct tt_proc_map *m = &t->maps.maps.data[i - 1];
        if (m->start >= limit)
            continue;
        if (m->end + PAGE + size <= end)
            return end - size;
        end = m->start - PAGE < end ? m->start - PAGE : end;
    }
    return end >= LOWEST + size ? end - size : 0;
}

static int64_t map(struct tt_remote *remote, uint64_t at, uint64_t size, struct tt_error *err)
{
    int64_t result = 0;
    int code = tt_remote_syscall(remote, SYS_mmap,
                                 (uint64_t[6]){at, size, PROT_READ | PROT_EXEC,
                                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
                                               (uint64_t)-1, 0},
                                 &result, NULL, err);
    if (code)
        return code;
    if (result > 0 && (uint64_t)result != at) { /* a kernel that does not know the flag */
        tt_remote_syscall(remote, SYS_munmap, (uint64_t[6]){(uint64_t)result, size}, &result, NULL,
                          err);
        return -EEXIST;
    }
    return result < 0 ? result : 0;
}

/* What mmap in the target refused, with what would help. */
static int explain_map(pid_t pid, int code, struct tt_error *err)
{
    struct rlimit limit;
    if (code != -ENOMEM)
        return tt_error_sys(err, code, "cannot map memory in process %d", (int)pid);
    if (prlimit(pid, RLIMIT_AS, NULL, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        return tt_error_set(err, code,
                            "cannot attach to process %d: its limit on address space leaves no "
                            "room: raise RLIMIT_AS (prlimit --as)",
                            (int)pid);
    return tt_error_set(err, code,
                        "cannot map memory in process %d: it has too many mappings "
                        "(vm.max_map_count), or the machine no memory (vm.overcommit_memory)",
                        (int)pid);
}

static int place(struct tt_remote *remote, uint64_t near, uint64_t size, uint64_t *at, bool *again,
                 struct tt_error *err)
{
    const struct tt_target *t = remote->target;
    const struct tt_proc_map *m = tt_proc_map_at(&t->maps, near);
    uint64_t limit = m ? m->start : near;
    /* Below the whole object, not into a hole of it. */
    for (size_t i = 0; m && m->inode && i < t->maps.maps.len; i++) {
        const struct tt_proc_map *other = &t->maps.maps.data[i];
        if (other->inode == m->inode && other->start < limit && limit - other->start < 1u << 30)
            limit = other->start;
    }
    *at = gap_below(t, limit, size);
    if (!*at || !tt_load_reaches(*at, near))
        return tt_error_set(err, -ENOSPC,
                            "cannot attach to process %d: no room within 2 GiB of its code",
                            (int)t->pid);
    int64_t code = map(remote, *at, size, err);
    *again = code == -EEXIST;
    if (code == 0)
        return 0;
    *at = 0;
    return explain_map(t->pid, (int)code, err);
}

static int make_writable(struct tt_remote *remote, const struct tt_load_file *file,
                         const struct tt_load *load, struct tt_error *err)
{
    int64_t result = 0;
    int code =
        tt_remote_syscall(remote, SYS_mprotect,
                          (uint64_t[6]){load->base + file->data_start,
                                        file->data_end - file->data_start, PROT_READ | PROT_WRITE},
                          &result, NULL, err);
    if (code == 0 && result)
        return tt_error_sys(err, (int)result, "cannot prepare memory in process %d",
                            (int)remote->target->pid);
    return code;
}

int tt_load_fill(const struct tt_target *target, const struct tt_load_file *file,
                 const struct tt_load *load, struct tt_error *err)
{
    static const uint8_t zeroes[PAGE]; /* such pages are there already */
    int code = 0;
    for (size_t at = 0; code == 0 && at < file->size;) {
        size_t n = 0;
        while (at + n < file->size && memcmp(file->image + at + n, zeroes, PAGE) != 0)
            n += PAGE;
        if (n)
            code = tt_target_write(target, load->base + at, file->image + at, n);
        at += n + PAGE;
    }
    if (code == 0)
        code = tt_load_put(target, load, &load->head, TT_LOAD_HEAD);
    return code ? tt_error_sys(err, code, "cannot write to the memory of process %d",
                               (int)target->pid)
                : 0;
}

int tt_load_map(struct tt_remote *remote, const struct tt_found *found,
                const struct tt_load_file *file, struct tt_load *out, bool *again,
                struct tt_error *err)
{
    uint64_t near_size = file->size + ISLAND_BYTES + PAD_BYTES, far = 0;
    *again = false;
    *out = (struct tt_load){0};
    memcpy(&out->head, file->image + file->at, TT_LOAD_HEAD);
    int code = place(remote, found->libc_near, near_size, &out->base, again, err);
    if (code)
        return code;
    struct tt_blob *b = &out->head;
    out->at = out->base + file->at;
    b->base = out->base;
    b->size = near_size;
    memcpy(b->build, file->build, sizeof b->build);
    b->island[TT_ISLAND_NEAR_LIBC] =
        (struct tt_blob_island){out->base + file->size, ISLAND_BYTES, 0};
    b->island[TT_ISLAND_PAD_LIBC] =
        (struct tt_blob_island){out->base + file->size + ISLAND_BYTES, PAD_BYTES, 0};
    if (!tt_load_reaches(out->base, found->entry)) {
        code = place(remote, found->entry, ISLAND_BYTES + PAD_BYTES, &far, again, err);
        b->island[TT_ISLAND_NEAR_EXE] = (struct tt_blob_island){far, ISLAND_BYTES, 0};
        b->island[TT_ISLAND_PAD_EXE] = (struct tt_blob_island){far + ISLAND_BYTES, PAD_BYTES, 0};
    }
    if (code == 0)
        code = make_writable(remote, file, out, err);
    if (code)
        tt_load_unmap(remote, out);
    return code;
}

void tt_load_unmap(struct tt_remote *remote, const struct tt_load *load)
{
    const struct tt_blob_island *far = &load->head.island[TT_ISLAND_NEAR_EXE];
    struct tt_error ignored;
    int64_t result;
    if (load->base)
        tt_remote_syscall(remote, SYS_munmap, (uint64_t[6]){load->base, load->head.size}, &result,
                          NULL, &ignored);
    if (far->base)
        tt_remote_syscall(remote, SYS_munmap, (uint64_t[6]){far->base, ISLAND_BYTES + PAD_BYTES},
                          &result, NULL, &ignored);
}
