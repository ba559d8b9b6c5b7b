/* SPDX-License-Identifier: Apache-2.0 */
/* Places in files of programs. A file is opened once, its symbols are sorted by address; types are
 * those of variables at the top of each unit of debug information, and static ones in functions.
 * Where a file was stripped, its separate debug file is taken by build-id.
 * Start: tt_places_name. */
#include "cmd/places.h"

#include <elfutils/libdw.h>
#include <dwarf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/map.h"
#include "base/text.h"
#include "proc/proc.h"
#include "symbol/symbol.h"

#define DIES_MOST 3000000u /* of one file; beyond, variables stay without a type */
#define TYPE_DEPTH 8

struct symbol {
    uint64_t address, size;
    const char *name; /* in the mapped ELF file */
};
struct segment {
    uint64_t offset, address, bytes;
};
struct source {
    int fd;
    Elf *elf;
    Dwarf *dwarf;
};
struct tt_place_file {
    char *path;
    struct source own, debug;
    TT_VEC(struct symbol) symbols;
    TT_VEC(struct segment) segments;
    Dwarf *typed;        /* of which types are, NULL: none */
    struct tt_map types; /* address of a variable -> offset of its DIE */
    bool types_read;
};

/* ---- opening ---- */

static bool open_source(struct source *s, const char *path)
{
    s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (s->fd < 0)
        return false;
    s->elf = elf_begin(s->fd, ELF_C_READ_MMAP, NULL);
    if (!s->elf || elf_kind(s->elf) != ELF_K_ELF)
        return false;
    s->dwarf = dwarf_begin_elf(s->elf, DWARF_C_READ, NULL);
    return true;
}

static void close_source(struct source *s)
{
    if (s->dwarf)
        dwarf_end(s->dwarf);
    if (s->elf)
        elf_end(s->elf);
    if (s->fd >= 0)
        close(s->fd);
}

static int by_address(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;
    if (x->address != y->address)
        return (x->address > y->address) - (x->address < y->address);
    return (x->size > y->size) - (x->size < y->size);
}

static void read_symbols(struct tt_place_file *f, Elf *elf)
{
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(elf, scn)) != NULL;) {
        GElf_Shdr header;
        if (!gelf_getshdr(scn, &header) || !header.sh_entsize ||
            (header.sh_type != SHT_SYMTAB && header.sh_type != SHT_DYNSYM))
            continue;
        Elf_Data *data = elf_getdata(scn, NULL);
        size_t n = data ? header.sh_size / header.sh_entsize : 0;
        for (size_t i = 0; i < n && i <= INT32_MAX; i++) {
            GElf_Sym sym;
            if (!gelf_getsym(data, (int)i, &sym) || sym.st_shndx == SHN_UNDEF || !sym.st_size ||
                (GELF_ST_TYPE(sym.st_info) != STT_OBJECT && GELF_ST_TYPE(sym.st_info) != STT_FUNC))
                continue;
            const char *name = elf_strptr(elf, header.sh_link, sym.st_name);
            struct symbol symbol = {sym.st_value, sym.st_size, name};
            if (name && *name && tt_vec_push(&f->symbols, symbol))
                return;
        }
    }
}

static void read_segments(struct tt_place_file *f)
{
    size_t n = 0;
    elf_getphdrnum(f->own.elf, &n);
    for (size_t i = 0; i < n && i <= INT32_MAX; i++) {
        GElf_Phdr ph;
        if (!gelf_getphdr(f->own.elf, (int)i, &ph) || ph.p_type != PT_LOAD)
            continue;
        struct segment segment = {ph.p_offset, ph.p_vaddr, ph.p_memsz};
        if (tt_vec_push(&f->segments, segment))
            return;
    }
}

static void open_debug(struct tt_place_file *f)
{
    char id[TT_PROC_BUILD_ID], path[128];
    if (tt_proc_build_id(f->own.fd, id) || strlen(id) < 4)
        return;
    snprintf(path, sizeof path, "/usr/lib/debug/.build-id/%.2s/%s.debug", id, id + 2);
    open_source(&f->debug, path);
}

static struct tt_place_file *open_file(struct tt_places *places, const char *path)
{
    for (size_t i = 0; i < places->files.len; i++)
        if (strcmp(places->files.data[i]->path, path) == 0)
            return places->files.data[i];
    struct tt_place_file *f = calloc(1, sizeof *f);
    if (!f || !(f->path = strdup(path)) ||
        tt_vec_push(&places->files, f)) { /* NOLINT(bugprone-sizeof-expression): pointers */
        if (f)
            free(f->path);
        free(f);
        return NULL;
    }
    f->own.fd = f->debug.fd = -1;
    elf_version(EV_CURRENT);
    if (!open_source(&f->own, path))
        return f;
    open_debug(f);
    read_segments(f);
    read_symbols(f, f->own.elf);
    if (f->debug.elf)
        read_symbols(f, f->debug.elf);
    if (f->symbols.len)
        qsort(f->symbols.data, f->symbols.len, sizeof *f->symbols.data, by_address);
    f->typed = f->own.dwarf ? f->own.dwarf : f->debug.dwarf;
    return f;
}

/* ---- types ---- */

static void note_variable(struct tt_place_file *f, Dwarf_Die *die)
{
    Dwarf_Attribute attribute;
    Dwarf_Op *ops;
    size_t n;
    if (dwarf_attr(die, DW_AT_location, &attribute) &&
        dwarf_getlocation(&attribute, &ops, &n) == 0 && n == 1 && ops[0].atom == DW_OP_addr)
        tt_map_put(&f->types, ops[0].number, dwarf_dieoffset(die));
}

/* Variables among the children of a DIE, and in the scopes that may hold static ones. */
static void read_scope(struct tt_place_file *f, Dwarf_Die *scope, unsigned depth, unsigned *budget)
{
    Dwarf_Die die;
    if (depth > 4 || dwarf_child(scope, &die) != 0)
        return;
    do {
        if (!*budget)
            return;
        --*budget;
        switch (dwarf_tag(&die)) {
        case DW_TAG_variable:
            note_variable(f, &die);
            break;
        case DW_TAG_namespace:
        case DW_TAG_subprogram:
        case DW_TAG_lexical_block:
            read_scope(f, &die, depth + 1, budget);
            break;
        default:
            break;
        }
    } while (dwarf_siblingof(&die, &die) == 0);
}

static void read_types(struct tt_place_file *f)
{
    unsigned budget = DIES_MOST;
    Dwarf_Off offset = 0, next;
    size_t header;
    f->types_read = true;
    while (budget && dwarf_nextcu(f->typed, offset, &next, &header, NULL, NULL, NULL) == 0) {
        Dwarf_Die unit;
        if (dwarf_offdie(f->typed, offset + header, &unit))
            read_scope(f, &unit, 0, &budget);
        offset = next;
    }
}

static Dwarf_Die *type_of(Dwarf_Die *die, Dwarf_Die *out)
{
    Dwarf_Attribute attribute;
    return dwarf_attr_integrate(die, DW_AT_type, &attribute) ? dwarf_formref_die(&attribute, out)
                                                             : NULL;
}

static void add_type(struct tt_text *text, Dwarf_Die *die, unsigned depth)
{
    Dwarf_Die inner;
    const char *name = dwarf_diename(die), *kind = "";
    Dwarf_Die *of = depth < TYPE_DEPTH ? type_of(die, &inner) : NULL;
    switch (dwarf_tag(die)) {
    case DW_TAG_pointer_type:
    case DW_TAG_reference_type:
    case DW_TAG_rvalue_reference_type:
        if (of)
            add_type(text, of, depth + 1);
        else
            tt_text_add(text, "void");
        if (text->len && !strchr("*&", text->data[text->len - 1]))
            tt_text_add(text, " ");
        tt_text_add(text, dwarf_tag(die) == DW_TAG_pointer_type ? "*" : "&");
        return;
    case DW_TAG_array_type: {
        Dwarf_Die range;
        Dwarf_Word n;
        Dwarf_Attribute attribute;
        if (of)
            add_type(text, of, depth + 1);
        for (int more = dwarf_child(die, &range); more == 0;
             more = dwarf_siblingof(&range, &range)) {
            if (dwarf_attr(&range, DW_AT_upper_bound, &attribute) &&
                dwarf_formudata(&attribute, &n) == 0)
                tt_text_add(text, "[%llu]", (unsigned long long)n + 1);
            else
                tt_text_add(text, "[]");
        }
        return;
    }
    case DW_TAG_const_type:
    case DW_TAG_volatile_type:
        tt_text_add(text, dwarf_tag(die) == DW_TAG_const_type ? "const " : "volatile ");
        if (of)
            add_type(text, of, depth + 1);
        return;
    case DW_TAG_subroutine_type:
        tt_text_add(text, "function");
        return;
    case DW_TAG_structure_type:
        kind = "struct ";
        break;
    case DW_TAG_union_type:
        kind = "union ";
        break;
    case DW_TAG_class_type:
        kind = "class ";
        break;
    case DW_TAG_enumeration_type:
        kind = "enum ";
        break;
    default:
        break;
    }
    tt_text_add(text, "%s%s", kind, name ? name : "{...}");
}

static void add_type_at(struct tt_place_file *f, uint64_t address, char *out, size_t size)
{
    Dwarf_Die variable, type;
    if (!f->typed)
        return;
    if (!f->types_read)
        read_types(f);
    const uint64_t *offset = tt_map_get(&f->types, address);
    struct tt_text text = {0};
    if (offset && dwarf_offdie(f->typed, *offset, &variable) && type_of(&variable, &type))
        add_type(&text, &type, 0);
    size_t at = strlen(out);
    if (text.len && !text.failed)
        snprintf(out + at, size - at, " (%s)", text.data);
    tt_text_free(&text);
}

/* ---- a place ---- */

int tt_places_name(struct tt_places *places, const char *path, uint64_t file_offset, char *out,
                   size_t size)
{
    struct tt_place_file *f = *path == '/' ? open_file(places, path) : NULL;
    uint64_t address = 0;
    bool there = false;
    /* segments may share a page of the file: the later, writable one is what is meant */
    for (size_t i = 0; f && i < f->segments.len; i++) {
        const struct segment *s = &f->segments.data[i];
        if (file_offset - s->offset < s->bytes) {
            address = s->address + (file_offset - s->offset);
            there = true;
        }
    }
    if (!there)
        return -ENOENT;
    size_t low = 0, high = f->symbols.len;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (f->symbols.data[mid].address <= address)
            low = mid + 1;
        else
            high = mid;
    }
    if (!low || address - f->symbols.data[low - 1].address >= f->symbols.data[low - 1].size)
        return -ENOENT;
    const struct symbol *symbol = &f->symbols.data[low - 1];
    char *plain = tt_symbol_demangle(symbol->name, false);
    const char *name = plain ? plain : symbol->name;
    if (address == symbol->address)
        snprintf(out, size, "%s", name);
    else
        snprintf(out, size, "%s+0x%llx", name, (unsigned long long)(address - symbol->address));
    free(plain);
    add_type_at(f, symbol->address, out, size);
    return 0;
}

void tt_places_free(struct tt_places *places)
{
    for (size_t i = 0; i < places->files.len; i++) {
        struct tt_place_file *f = places->files.data[i];
        tt_map_free(&f->types);
        tt_vec_free(&f->symbols);
        tt_vec_free(&f->segments);
        close_source(&f->own);
        close_source(&f->debug);
        free(f->path);
        free(f);
    }
    tt_vec_free(&places->files);
}
