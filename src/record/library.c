/* SPDX-License-Identifier: Apache-2.0 */
/* Where the functions of the resource table stand in a C library, or in a program that has one
 * linked into it. Only exported names of libraries are asked for, since what the library calls
 * itself by hidden names is its own affair. Read once per file and recording. Start: tt_library_of.
 */
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record/internal.h"

#define ROWS_MOST 512u

struct wanted {
    const char *name; /* up to the next space */
    size_t length;
    const struct tt_resource_watch *row;
    uint8_t kind;
};

struct wanted_list {
    struct wanted names[ROWS_MOST];
    size_t n;
    struct tt_map at; /* hash of the name -> index */
};

/* ---- the names of the table ---- */

static void want(struct wanted_list *list, const struct tt_resource_watch *row, uint8_t kind)
{
    for (const char *p = row->functions; *p;) {
        size_t n = strcspn(p, " ");
        if (n && list->n < ROWS_MOST && tt_map_put(&list->at, tt_map_hash(p, n), list->n) == 0)
            list->names[list->n++] = (struct wanted){p, n, row, kind};
        p += n;
        p += *p == ' ';
    }
}

static void want_all(struct wanted_list *list)
{
    size_t n;
    const struct tt_resource *const *kinds = tt_resources(&n);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < kinds[i]->n_watches; k++)
            want(list, &kinds[i]->watches[k], kinds[i]->kind);
    for (size_t k = 0; k < tt_resource_owner_count; k++)
        want(list, &tt_resource_owner_watches[k], TT_KIND_HEAP);
}

static const struct wanted *wanted_named(const struct wanted_list *list, const char *name)
{
    size_t n = strcspn(name, "@");
    const uint64_t *at = tt_map_get(&list->at, tt_map_hash(name, n));
    if (!at || *at >= list->n)
        return NULL;
    const struct wanted *w = &list->names[*at];
    return w->length == n && memcmp(w->name, name, n) == 0 ? w : NULL;
}

/* ---- symbol tables ---- */

bool tt_library_offset(void *file, uint64_t address, uint64_t *offset)
{
    Elf *elf = file;
    size_t n;
    if (elf_getphdrnum(elf, &n))
        return false;
    for (size_t i = 0; i < n; i++) {
        GElf_Phdr p;
        if (gelf_getphdr(elf, (int)i, &p) && p.p_type == PT_LOAD && (p.p_flags & PF_X) &&
            address >= p.p_vaddr && address - p.p_vaddr < p.p_filesz) {
            *offset = address - p.p_vaddr + p.p_offset;
            return true;
        }
    }
    return false;
}

static bool known(const struct tt_library *library, uint64_t offset)
{
    for (size_t i = 0; i < library->functions.len; i++)
        if (library->functions.data[i].offset == offset)
            return true;
    return false;
}

/* Exported by its libc.so; in every static program of its. */
static bool is_of_glibc(const char *name)
{
    return strcmp(name, "gnu_get_libc_version") == 0 || strcmp(name, "__libc_setup_tls") == 0;
}

/* Old versions of a symbol are functions of their own, and aliases are not. */
static void read_symbols(Elf *elf, Elf_Scn *section, const GElf_Shdr *header,
                         const struct wanted_list *list, struct tt_library *library)
{
    Elf_Data *data = elf_getdata(section, NULL);
    size_t n = data && header->sh_entsize ? header->sh_size / header->sh_entsize : 0;
    for (size_t i = 0; i < n && i < INT32_MAX; i++) {
        GElf_Sym s;
        if (!gelf_getsym(data, (int)i, &s) || s.st_shndx == SHN_UNDEF ||
            GELF_ST_TYPE(s.st_info) != STT_FUNC || !s.st_size)
            continue;
        const char *name = elf_strptr(elf, header->sh_link, s.st_name);
        library->glibc |= name && is_of_glibc(name);
        const struct wanted *w = name ? wanted_named(list, name) : NULL;
        struct tt_library_function f = {.size = s.st_size};
        if (!w || !tt_library_offset(elf, s.st_value, &f.offset) || known(library, f.offset))
            continue;
        f.name = w->name;
        f.row = w->row;
        f.kind = w->kind;
        if (tt_vec_push(&library->functions, f))
            return;
    }
}

static void read_file(int fd, uint32_t type, struct tt_library *library)
{
    struct wanted_list *list = calloc(1, sizeof *list);
    elf_version(EV_CURRENT);
    Elf *elf = list ? elf_begin(fd, ELF_C_READ_MMAP, NULL) : NULL;
    if (elf) {
        want_all(list);
        for (Elf_Scn *s = elf_nextscn(elf, NULL); s; s = elf_nextscn(elf, s)) {
            GElf_Shdr header;
            if (gelf_getshdr(s, &header) && header.sh_type == type)
                read_symbols(elf, s, &header, list, library);
        }
        elf_end(elf);
    }
    if (list)
        tt_map_free(&list->at);
    free(list);
}

/* ---- modules ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Before glibc 2.34 threads, timers and dlopen lay in libraries of their own. */
bool tt_library_is(const char *path)
{
    static const char *const prefixes[] = {
        "libc.so",       "libc-2.",  "libc.musl", "ld-musl",  "libpthread.so",
        "libpthread-2.", "librt.so", "librt-2.",  "libdl.so", "libdl-2."};
    const char *base = base_name(path);
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(base, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

static bool has_c_library(const struct tt_image *image)
{
    for (size_t i = 0; i < image->modules.len; i++)
        if (tt_library_is(image->modules.data[i].row.path))
            return true;
    return false;
}

static const struct tt_library *read_before(const struct tt_recorder *rec, const char *path,
                                            const char *build_id)
{
    for (size_t i = 0; *build_id && i < rec->libraries.len; i++)
        if (strcmp(rec->libraries.data[i].build_id, build_id) == 0 &&
            strcmp(rec->libraries.data[i].path, path) == 0)
            return &rec->libraries.data[i];
    return NULL;
}

const struct tt_library *tt_library_of(struct tt_recorder *rec, const struct tt_image *image,
                                       const struct tt_session_module *module)
{
    bool linked_in = !has_c_library(image) && strcmp(module->path, image->exe) == 0;
    if (!tt_library_is(module->path) && !linked_in)
        return NULL;
    const struct tt_library *before = read_before(rec, module->path, module->build_id);
    if (before)
        return before;
    const struct tt_proc_map *map = tt_proc_map_at(&image->maps, module->start);
    int fd = map ? tt_modules_open(image, map) : -1;
    if (fd < 0)
        return NULL;
    const struct tt_library *library =
        tt_library_read(rec, module->path, module->build_id, fd, linked_in);
    close(fd);
    return library;
}

const struct tt_library *tt_library_read(struct tt_recorder *rec, const char *path,
                                         const char *build_id, int fd, bool linked_in)
{
    const struct tt_library *before = read_before(rec, path, build_id);
    if (before)
        return before;
    struct tt_library library = {0};
    snprintf(library.path, sizeof library.path, "%s", path);
    snprintf(library.build_id, sizeof library.build_id, "%s", build_id);
    read_file(fd, linked_in ? SHT_SYMTAB : SHT_DYNSYM, &library);
    library.glibc |= !linked_in && strncmp(base_name(path), "lib", 3) == 0 &&
                     strncmp(base_name(path), "libc", 4) != 0; /* a part of it */
    if (tt_vec_push(&rec->libraries, library)) {
        tt_vec_free(&library.functions);
        return NULL;
    }
    return &rec->libraries.data[rec->libraries.len - 1];
}

void tt_libraries_free(struct tt_recorder *rec)
{
    for (size_t i = 0; i < rec->libraries.len; i++)
        tt_vec_free(&rec->libraries.data[i].functions);
    tt_vec_free(&rec->libraries);
}
