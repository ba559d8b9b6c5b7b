/* SPDX-License-Identifier: Apache-2.0 */
/* The definitions of malloc and its family in a running process, found as its loader did: the first
 * in its list of objects (objects.c) that defines malloc. Symbols are read from the process's
 * memory, so that its file system may be another. Allocators linked in under other names are found
 * by .symtab, which only files have. A set is one allocator: all its acquiring and releasing
 * functions. Start: tt_find. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inject/find.h"
#include "inject/objects.h"

#define TABLE_MOST (256u << 20)

static const struct {
    uint16_t entry;
    const char *name;
} names[] = {
    {TT_E_MALLOC, "malloc"},
    {TT_E_FREE, "free"},
    {TT_E_CALLOC, "calloc"},
    {TT_E_REALLOC, "realloc"},
    {TT_E_REALLOCARRAY, "reallocarray"},
    {TT_E_MEMALIGN, "memalign"},
    {TT_E_ALIGNED_ALLOC, "aligned_alloc"},
    {TT_E_POSIX_MEMALIGN, "posix_memalign"},
    {TT_E_VALLOC, "valloc"},
    {TT_E_PVALLOC, "pvalloc"},
    {TT_E_USABLE_SIZE, "malloc_usable_size"},
    {TT_E_CFREE, "cfree"},
    {TT_E_FREE_SIZED, "free_sized"},
    {TT_E_FREE_ALIGNED_SIZED, "free_aligned_sized"},
    {TT_E_NEW, "_Znwm"},
    {TT_E_NEW_ARRAY, "_Znam"},
    {TT_E_NEW_NOTHROW, "_ZnwmRKSt9nothrow_t"},
    {TT_E_NEW_ARRAY_NOTHROW, "_ZnamRKSt9nothrow_t"},
    {TT_E_NEW_ALIGNED, "_ZnwmSt11align_val_t"},
    {TT_E_NEW_ARRAY_ALIGNED, "_ZnamSt11align_val_t"},
    {TT_E_NEW_ALIGNED_NT, "_ZnwmSt11align_val_tRKSt9nothrow_t"},
    {TT_E_NEW_ARRAY_ALIGNED_NT, "_ZnamSt11align_val_tRKSt9nothrow_t"},
    {TT_E_DELETE, "_ZdlPv"},
    {TT_E_DELETE_ARRAY, "_ZdaPv"},
    {TT_E_DELETE_SIZED, "_ZdlPvm"},
    {TT_E_DELETE_ARRAY_SIZED, "_ZdaPvm"},
    {TT_E_DELETE_NOTHROW, "_ZdlPvRKSt9nothrow_t"},
    {TT_E_DELETE_ARRAY_NOTHROW, "_ZdaPvRKSt9nothrow_t"},
    {TT_E_DELETE_ALIGNED, "_ZdlPvSt11align_val_t"},
    {TT_E_DELETE_ARRAY_ALIGNED, "_ZdaPvSt11align_val_t"},
    {TT_E_DELETE_SIZED_ALIGNED, "_ZdlPvmSt11align_val_t"},
    {TT_E_DELETE_ARRAY_SIZED_AL, "_ZdaPvmSt11align_val_t"},
    {TT_E_DELETE_ALIGNED_NT, "_ZdlPvSt11align_val_tRKSt9nothrow_t"},
    {TT_E_DELETE_ARRAY_AL_NT, "_ZdaPvSt11align_val_tRKSt9nothrow_t"},
};

/* How allocators that are linked into a program name their functions. */
static const char *const prefixes[] = {"je_", "_rjem_", "_rjem_je_", "mi_", "tc_"};
#define PREFIXES (sizeof prefixes / sizeof prefixes[0])

/* Releases beyond the C library's, which would be missed: taken as releasing entries that the
 * allocator leaves free. Each frees its first argument. */
static const char *const more_releases[] = {"dallocx", "sdallocx", "free_size", "free_aligned",
                                            "free_size_aligned"};
#define MORE (sizeof more_releases / sizeof more_releases[0])

static const char *const others[TT_FIND_OTHERS] = {"dlclose", "prctl", "syscall"};

int tt_find_refuse(const struct tt_target *t, const char *what, struct tt_error *err)
{
    return tt_error_set(err, -EOPNOTSUPP, "cannot attach to process %d: %s", (int)t->pid, what);
}

bool tt_find_releases(uint16_t entry)
{
    return entry == TT_E_FREE || entry == TT_E_CFREE || entry == TT_E_FREE_SIZED ||
           entry == TT_E_FREE_ALIGNED_SIZED || (entry >= TT_E_DELETE && entry < TT_E_COUNT);
}

/* ---- symbols ---- */

/* What one object, or one family of names in it, defines. */
struct family {
    struct tt_definition of[TT_E_COUNT], more[MORE], other[TT_FIND_OTHERS];
};

static void take(struct tt_definition *d, size_t object, uint16_t entry, const char *name,
                 const Elf64_Sym *s, uint64_t bias)
{
    unsigned type = ELF64_ST_TYPE(s->st_info);
    if (s->st_shndx == SHN_UNDEF || s->st_value == 0 ||
        (type != STT_FUNC && type != STT_NOTYPE && type != STT_GNU_IFUNC) || d->address)
        return;
    *d = (struct tt_definition){.address = bias + s->st_value,
                                .size = s->st_size,
                                .object = object,
                                .entry = entry,
                                .ifunc = type == STT_GNU_IFUNC};
    snprintf(d->name, sizeof d->name, "%s", name);
}

static void match(struct family *families, size_t object, const char *name, const Elf64_Sym *s,
                  uint64_t bias)
{
    for (uint16_t i = 0; i < TT_FIND_OTHERS; i++)
        if (strcmp(name, others[i]) == 0)
            take(&families[0].other[i], object, (uint16_t)(TT_E_COUNT + i), name, s, bias);
    for (size_t k = 0; k <= PREFIXES; k++) {
        size_t skip = k ? strlen(prefixes[k - 1]) : 0;
        if (k && strncmp(name, prefixes[k - 1], skip) != 0)
            continue;
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
            if (strcmp(name + skip, names[i].name) == 0)
                take(&families[k].of[names[i].entry], object, names[i].entry, name, s, bias);
        for (size_t i = 0; i < MORE; i++)
            if (strcmp(name + skip, more_releases[i]) == 0 && (k || strchr(name, 'x')))
                take(&families[k].more[i], object, 0, name, s, bias);
    }
}

static bool may_match(const char *name)
{
    return strchr("mfcrapv_jtsd", name[0]) != NULL;
}

/* The symbols that the loader sees. */
static int dynamic_symbols(const struct tt_target *t, size_t object, const struct tt_object *o,
                           struct family *families)
{
    uint64_t bytes = o->symbols * sizeof(Elf64_Sym);
    if (!o->symbols || !o->strsz || bytes > TABLE_MOST || o->strsz > TABLE_MOST)
        return 0;
    Elf64_Sym *symbols = malloc(bytes);
    char *strings = malloc(o->strsz + 1);
    int code = symbols && strings ? 0 : -ENOMEM;
    if (code == 0 && tt_target_read(t, o->symtab, symbols, bytes) == 0 &&
        tt_target_read(t, o->strtab, strings, o->strsz) == 0) {
        strings[o->strsz] = '\0';
        for (uint64_t i = 0; i < o->symbols; i++) {
            const char *name = symbols[i].st_name < o->strsz ? strings + symbols[i].st_name : "";
            if (symbols[i].st_shndx != SHN_UNDEF && may_match(name))
                match(families, object, name, &symbols[i], o->bias);
        }
    }
    free(symbols);
    free(strings);
    return code;
}

/* The object's file: through the mapping where we may, else by name below the process's root. */
static int open_file(const struct tt_target *t, const struct tt_object *o)
{
    char path[PATH_MAX + 64];
    for (size_t i = 0; i < t->maps.maps.len; i++) {
        const struct tt_proc_map *m = &t->maps.maps.data[i];
        if (m->start != o->start || !m->inode)
            continue;
        snprintf(path, sizeof path, "/proc/%d/map_files/%lx-%lx", (int)t->pid,
                 (unsigned long)m->start, (unsigned long)m->end);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
            return fd;
    }
    snprintf(path, sizeof path, *o->path ? "/proc/%d/root%s" : "/proc/%d/exe", (int)t->pid,
             o->path);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* Symbols that only the file has. *glibc: it holds glibc's own malloc (a static program). */
static void file_symbols(const struct tt_target *t, size_t object, const struct tt_object *o,
                         struct family *families, bool *glibc)
{
    int fd = open_file(t, o);
    elf_version(EV_CURRENT);
    Elf *elf = fd >= 0 ? elf_begin(fd, ELF_C_READ_MMAP, NULL) : NULL;
    for (Elf_Scn *scn = NULL; elf && (scn = elf_nextscn(elf, scn)) != NULL;) {
        GElf_Shdr sh;
        if (!gelf_getshdr(scn, &sh) || sh.sh_type != SHT_SYMTAB)
            continue;
        Elf_Data *data = elf_getdata(scn, NULL);
        size_t n = data ? data->d_size / sizeof(Elf64_Sym) : 0;
        for (size_t i = 0; i < n; i++) {
            GElf_Sym s;
            if (!gelf_getsym(data, (int)i, &s) || s.st_shndx == SHN_UNDEF)
                continue;
            const char *name = elf_strptr(elf, sh.sh_link, s.st_name);
            if (!name || !may_match(name))
                continue;
            *glibc |= strcmp(name, "__libc_malloc") == 0 || strcmp(name, "_int_malloc") == 0;
            match(families, object, name, &s, o->bias);
        }
    }
    elf_end(elf);
    if (fd >= 0)
        close(fd);
}

/* ---- sets ---- */

/* Gives the further releases entries that the family does not use. */
static void place_more(struct family *f)
{
    uint16_t e = TT_E_CFREE;
    for (size_t i = 0; i < MORE; i++) {
        while (e < TT_E_COUNT && (!tt_find_releases(e) || f->of[e].address))
            e++;
        if (e == TT_E_COUNT)
            return;
        if (f->more[i].address) {
            f->of[e] = f->more[i];
            f->of[e].entry = e;
        }
    }
}

static int add_set(struct tt_found *out, struct family *f)
{
    if (out->sets >= TT_BLOB_SETS)
        return 0;
    unsigned set = out->sets++;
    place_more(f);
    for (uint16_t e = 0; e < TT_E_COUNT; e++) {
        if (!f->of[e].address)
            continue;
        for (size_t i = 0; i < out->definitions.len; i++)
            if (out->definitions.data[i].address == f->of[e].address &&
                out->definitions.data[i].set == set)
                out->index[set][e] = (uint16_t)(i + 1); /* another name of it */
        if (out->index[set][e])
            continue;
        struct tt_definition d = f->of[e];
        d.set = (uint16_t)set;
        if (tt_vec_push(&out->definitions, d))
            return -ENOMEM;
        out->index[set][e] = (uint16_t)out->definitions.len;
    }
    return 0;
}

static bool whole(const struct family *f)
{
    return f->of[TT_E_MALLOC].address && f->of[TT_E_FREE].address && f->of[TT_E_REALLOC].address;
}

/* Families of one object: [0] the plain names, then by prefix. Prefixed ones beside plain ones in
 * one object are other names of the same allocator. */
struct look {
    struct family plain, other[PREFIXES];
};

static int find_sets(const struct tt_target *t, struct tt_found *out, bool is_static,
                     struct tt_error *err)
{
    size_t n = out->objects.len, libc = n, bound = n;
    struct look *looks = calloc(n ? n : 1, sizeof *looks);
    struct family scratch[PREFIXES + 1];
    int code = looks ? 0 : -ENOMEM;
    bool any_other = false, glibc = false;
    for (size_t i = 0; code == 0 && i < n; i++) {
        const struct tt_object *o = &out->objects.data[i];
        const char *base = strrchr(o->path, '/');
        if (strncmp(base ? base + 1 : o->path, "ld-linux", 8) == 0 ||
            strncmp(base ? base + 1 : o->path, "ld-2.", 5) == 0)
            continue; /* the loader's own malloc serves only its start */
        memset(scratch, 0, sizeof scratch);
        code = dynamic_symbols(t, i, o, scratch);
        bool seen = whole(&scratch[0]);
        /* Plain names in a file's table are the ones of a static program, or hidden in a library
         * that keeps an allocator to itself. */
        if (!seen && !o->libc)
            file_symbols(t, i, o, scratch, &glibc);
        looks[i].plain = scratch[0];
        memcpy(looks[i].other, scratch + 1, sizeof looks[i].other);
        if (seen && bound == n)
            bound = i;
        if (o->libc && libc == n)
            libc = i;
    }
    if (code == 0 && is_static && n && whole(&looks[0].plain))
        bound = 0;
    if (code == 0 && bound < n) {
        code = add_set(out, &looks[bound].plain);
        bool is_libc = out->objects.data[bound].libc || (is_static && glibc);
        any_other |= !is_libc;
        snprintf(out->allocator, sizeof out->allocator, "%.63s",
                 is_libc                          ? "glibc"
                 : *out->objects.data[bound].path ? out->objects.data[bound].path
                                                  : "the program");
    }
    for (size_t i = 0; code == 0 && i < n; i++) {
        if (i != bound && whole(&looks[i].plain)) {
            any_other |= i != libc;
            code = add_set(out, &looks[i].plain);
        }
        for (size_t k = 0; code == 0 && k < PREFIXES && !whole(&looks[i].plain); k++)
            if (whole(&looks[i].other[k])) {
                any_other = true;
                code = add_set(out, &looks[i].other[k]);
            }
    }
    for (size_t k = 0; k < TT_FIND_OTHERS; k++)
        for (size_t i = 0; code == 0 && i < n && out->sets && !out->other[k]; i++)
            if (looks[i].plain.other[k].address) {
                code = tt_vec_push(&out->definitions, looks[i].plain.other[k]);
                out->other[k] = (uint16_t)out->definitions.len;
            }
    out->glibc_only = !any_other;
    out->libc_near = libc < n && looks ? looks[libc].plain.of[TT_E_MALLOC].address : 0;
    free(looks);
    if (code)
        return tt_error_set(err, code, "out of memory");
    if (is_static && !glibc)
        return tt_find_refuse(t,
                              "it is linked statically and has no symbols of glibc: start a "
                              "dynamic build of it, or keep its symbol table",
                              err);
    if (!is_static && libc == n)
        return tt_find_refuse(t, "glibc is not among its libraries", err);
    if (!out->sets)
        return tt_find_refuse(t, "no allocator was found in it", err);
    return 0;
}

int tt_find(const struct tt_target *target, struct tt_found *out, struct tt_error *err)
{
    bool is_static;
    *out = (struct tt_found){0};
    int code = tt_objects_find(target, out, &is_static, err);
    if (code == 0)
        code = find_sets(target, out, is_static, err);
    if (!out->libc_near)
        out->libc_near = out->entry;
    if (code)
        tt_find_free(out);
    return code;
}

void tt_find_free(struct tt_found *found)
{
    tt_vec_free(&found->objects);
    tt_vec_free(&found->definitions);
}

/* ---- pointers to a function ---- */

static void slots_of(const struct tt_target *t, const struct tt_object *o, uint64_t table,
                     uint64_t bytes, const char *name, void (*put)(void *, uint64_t), void *arg)
{
    Elf64_Rela *rela = bytes && bytes <= TABLE_MOST ? malloc(bytes) : NULL;
    if (rela && tt_target_read(t, table, rela, bytes) == 0)
        for (uint64_t i = 0; i < bytes / sizeof *rela; i++) {
            uint64_t type = ELF64_R_TYPE(rela[i].r_info), index = ELF64_R_SYM(rela[i].r_info);
            Elf64_Sym s;
            char text[64];
            if ((type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT &&
                 (type != R_X86_64_64 || rela[i].r_addend)) ||
                !index || tt_target_read(t, o->symtab + index * sizeof s, &s, sizeof s))
                continue;
            tt_target_read_text(t, o->strtab + s.st_name, text, sizeof text);
            if (strcmp(text, name) == 0)
                put(arg, o->bias + rela[i].r_offset);
        }
    free(rela);
}

void tt_find_slots(const struct tt_target *target, const struct tt_found *found, const char *name,
                   void (*put)(void *arg, uint64_t slot), void *arg)
{
    for (size_t i = 0; i < found->objects.len; i++) {
        const struct tt_object *o = &found->objects.data[i];
        slots_of(target, o, o->jmprel, o->pltrelsz, name, put, arg);
        slots_of(target, o, o->rela, o->relasz, name, put, arg);
    }
}
