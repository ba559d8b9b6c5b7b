/* SPDX-License-Identifier: Apache-2.0 */
/* The front of the room: the module list, the cache of answers, and the walk from a pc through
 * inlined calls to the function that contains it. Start: tt_symbol_lookup. */
#include "symbol/symbol.h"

#include <dwarf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "symbol/internal.h"

const char *tt_symbol_intern(struct tt_symbols *symbols, const char *text)
{
    uint64_t hash = tt_map_hash(text, strlen(text));
    const uint64_t *at = tt_map_get(&symbols->interned, hash);
    if (at && *at < symbols->strings.len && !strcmp(symbols->strings.data[*at], text))
        return symbols->strings.data[*at];
    char *copy = strdup(text);
    if (!copy || tt_vec_push(&symbols->strings, copy)) {
        free(copy);
        symbols->out_of_memory = true;
        return "";
    }
    if (!at)
        tt_map_put(&symbols->interned, hash, symbols->strings.len - 1);
    return copy;
}

static const char *intern_or_empty(struct tt_symbols *symbols, const char *text)
{
    return text && *text ? tt_symbol_intern(symbols, text) : "";
}

static void add_debug_dir(struct tt_symbols *symbols, const char *root, const char *dir)
{
    char *path;
    if (asprintf(&path, "%s%s", root, dir) < 0) {
        symbols->out_of_memory = true;
        return;
    }
    const char *kept = tt_symbol_intern(symbols, path);
    free(path);
    if (tt_vec_push(&symbols->debug_dirs, kept))
        symbols->out_of_memory = true;
}

static void add_image(struct tt_symbols *symbols, const struct tt_symbol_module *module)
{
    struct tt_symbol_image image = {.owner = symbols, .module = *module};
    static const char deleted[] = " (deleted)";
    const char *recorded = module->path ? module->path : "";
    size_t len = strlen(recorded), tail = sizeof deleted - 1;
    image.module.path = intern_or_empty(symbols, recorded);
    image.module.build_id = intern_or_empty(symbols, module->build_id);
    image.path = image.module.path;
    if (len > tail && !strcmp(recorded + len - tail, deleted)) {
        char *path = strndup(recorded, len - tail);
        image.path = path ? tt_symbol_intern(symbols, path) : "";
        free(path);
    }
    if (tt_vec_push(&symbols->images, image))
        symbols->out_of_memory = true;
}

struct tt_symbols *tt_symbol_open(const struct tt_symbol_module *modules, size_t n,
                                  const struct tt_symbol_options *options, struct tt_error *err)
{
    struct tt_symbols *symbols = calloc(1, sizeof *symbols);
    if (symbols) {
        elf_version(EV_CURRENT);
        if (options)
            symbols->options = *options;
        symbols->sysroot = intern_or_empty(symbols, symbols->options.sysroot);
        if (*symbols->sysroot)
            add_debug_dir(symbols, symbols->sysroot, "/usr/lib/debug");
        for (size_t i = 0; i < symbols->options.n_debug_paths; i++)
            add_debug_dir(symbols, "", symbols->options.debug_paths[i]);
        add_debug_dir(symbols, "", "/usr/lib/debug");
        symbols->options.debug_paths = NULL; /* the caller's */
        symbols->options.sysroot = NULL;
        for (size_t i = 0; i < n; i++)
            add_image(symbols, &modules[i]);
    }
    if (!symbols || symbols->out_of_memory) {
        tt_symbol_close(symbols);
        tt_error_set(err, -ENOMEM, "out of memory for %zu modules' symbols", n);
        return NULL;
    }
    return symbols;
}

void tt_symbol_close(struct tt_symbols *symbols)
{
    if (!symbols)
        return;
    for (size_t i = 0; i < symbols->images.len; i++) {
        if (symbols->images.data[i].dwfl)
            dwfl_end(symbols->images.data[i].dwfl);
        tt_vec_free(&symbols->images.data[i].units);
    }
    for (size_t i = 0; i < symbols->answers.len; i++)
        free(symbols->answers.data[i].frames);
    for (size_t i = 0; i < symbols->strings.len; i++)
        free(symbols->strings.data[i]);
    tt_symbol_fetch_end(symbols);
    tt_vec_free(&symbols->images);
    tt_vec_free(&symbols->debug_dirs);
    tt_vec_free(&symbols->strings);
    tt_vec_free(&symbols->answers);
    tt_vec_free(&symbols->warnings);
    tt_map_free(&symbols->interned);
    tt_map_free(&symbols->cache);
    free(symbols);
}

struct tt_symbol_image *tt_symbol_image_at(struct tt_symbols *symbols, uint64_t pc)
{
    for (size_t i = symbols->images.len; i-- > 0;) {
        struct tt_symbol_image *image = &symbols->images.data[i];
        if (pc >= image->module.start && pc < image->module.end)
            return image;
    }
    return NULL;
}

static bool has_scopes(Dwarf_Die *cu)
{
    switch (dwarf_srclang(cu)) {
    case DW_LANG_C:
    case DW_LANG_C89:
    case DW_LANG_C99:
    case DW_LANG_C11:
    case DW_LANG_Mips_Assembler:
        return false;
    default:
        return true;
    }
}

/* A function that was never emitted has no linkage name: its name is put together from the scopes
 * around its declaration, "std::thread::_Invoker::operator()". */
static const char *scoped_name(struct tt_symbols *symbols, Dwarf_Die *die, const char *name)
{
    enum { HOPS = 8 }; /* inlined body, abstract instance, declaration in the class */
    Dwarf_Die declaration = *die, *scopes = NULL;
    Dwarf_Attribute attr;
    for (int i = 0; i < HOPS; i++) {
        Dwarf_Attribute *next = dwarf_attr(&declaration, DW_AT_abstract_origin, &attr);
        if (!next)
            next = dwarf_attr(&declaration, DW_AT_specification, &attr);
        if (!next || !dwarf_formref_die(next, &declaration))
            break;
    }
    struct tt_text text = {0};
    for (int i = dwarf_getscopes_die(&declaration, &scopes); i-- > 1;) {
        int tag = dwarf_tag(&scopes[i]);
        const char *scope = dwarf_diename(&scopes[i]);
        if (tag == DW_TAG_namespace && !scope)
            scope = "(anonymous namespace)";
        else if ((tag == DW_TAG_class_type || tag == DW_TAG_structure_type) && !scope)
            scope = strcmp(name, "operator()") ? "{unnamed}" : "{lambda}";
        if (scope &&
            (tag == DW_TAG_namespace || tag == DW_TAG_class_type || tag == DW_TAG_structure_type ||
             tag == DW_TAG_union_type || tag == DW_TAG_subprogram))
            tt_text_add(&text, "%s::", scope);
    }
    free(scopes);
    tt_text_add(&text, "%s", name);
    symbols->out_of_memory |= text.failed != 0;
    const char *kept = tt_symbol_intern(symbols, text.data ? text.data : "");
    tt_text_free(&text);
    return kept;
}

/* The linkage name says class and namespace; C functions have only the plain one. */
static const char *die_name(struct tt_symbols *symbols, Dwarf_Die *cu, Dwarf_Die *die)
{
    Dwarf_Attribute attr;
    const char *name = dwarf_formstring(dwarf_attr_integrate(die, DW_AT_linkage_name, &attr));
    if (!name)
        name = dwarf_formstring(dwarf_attr_integrate(die, DW_AT_MIPS_linkage_name, &attr));
    if (name)
        return tt_symbol_name(symbols, name);
    name = dwarf_diename(die);
    if (!name)
        return "";
    return has_scopes(cu) ? scoped_name(symbols, die, name) : tt_symbol_intern(symbols, name);
}

/* Where an inlined body was called: the source position of the next frame. */
static void call_site(struct tt_symbol_image *image, Dwarf_Die *cu, Dwarf_Die *die,
                      const char **file, unsigned *line)
{
    Dwarf_Attribute attr;
    Dwarf_Word number = 0, index = 0;
    Dwarf_Files *files;
    size_t n;
    *file = "";
    *line = 0;
    if (!dwarf_formudata(dwarf_attr(die, DW_AT_call_line, &attr), &number))
        *line = (unsigned)number;
    if (!dwarf_formudata(dwarf_attr(die, DW_AT_call_file, &attr), &index) &&
        !dwarf_getsrcfiles(cu, &files, &n) && index < n)
        *file = tt_symbol_source(image, cu, dwarf_filesrc(files, index, NULL, NULL));
}

struct frame_list {
    struct tt_symbol_frame *data;
    size_t len, cap;
};

enum { SCOPES_MAX = 128 }; /* nesting deeper than any compiler's: a hostile file */

/* The scopes with code around address, outermost first. dwarf_getscopes is not used: it does not
 * look into scopes that have no address range of their own, where Rust puts its functions. */
static size_t find_scopes(Dwarf_Die *parent, Dwarf_Addr address, Dwarf_Die *scopes, size_t used,
                          unsigned depth)
{
    Dwarf_Die child;
    if (depth >= SCOPES_MAX || dwarf_child(parent, &child))
        return used;
    do {
        switch (dwarf_tag(&child)) {
        case DW_TAG_namespace:
        case DW_TAG_module:
        case DW_TAG_class_type:
        case DW_TAG_structure_type:
        case DW_TAG_union_type:
        case DW_TAG_enumeration_type: {
            size_t n = find_scopes(&child, address, scopes, used, depth + 1);
            if (n > used)
                return n;
            break;
        }
        case DW_TAG_subprogram:
        case DW_TAG_inlined_subroutine:
        case DW_TAG_lexical_block:
        case DW_TAG_try_block:
        case DW_TAG_catch_block:
            if (dwarf_haspc(&child, address) > 0) {
                scopes[used] = child;
                return find_scopes(&child, address, scopes, used + 1, depth + 1);
            }
            break;
        default:
            break;
        }
    } while (!dwarf_siblingof(&child, &child));
    return used;
}

static int add_dwarf_frames(struct tt_symbol_image *image, uint64_t pc, struct frame_list *list,
                            struct tt_symbol_frame *frame)
{
    Dwarf_Addr bias;
    Dwarf_Die room, *cu = tt_symbol_unit_at(image, pc, &room, &bias);
    if (!cu)
        return 0;
    Dwarf_Die scopes[SCOPES_MAX];
    int rc = 0;
    for (size_t i = find_scopes(cu, pc - bias, scopes, 0, 0); i-- > 0 && !rc;) {
        int tag = dwarf_tag(&scopes[i]);
        if (tag == DW_TAG_inlined_subroutine) {
            frame->function = die_name(image->owner, cu, &scopes[i]);
            frame->inlined = true;
            rc = tt_vec_push(list, *frame);
            frame->inlined = false;
            frame->function = "";
            call_site(image, cu, &scopes[i], &frame->file, &frame->line);
        } else if (tag == DW_TAG_subprogram) {
            frame->function = die_name(image->owner, cu, &scopes[i]);
            break;
        }
    }
    return rc;
}

static int find_frames(struct tt_symbols *symbols, uint64_t address, uint64_t pc,
                       struct frame_list *list)
{
    struct tt_symbol_image *image = tt_symbol_image_at(symbols, pc);
    struct tt_symbol_frame frame = {"", "", "", 0, false, address};
    if (image) {
        frame.module = image->module.path;
        frame.offset = address - image->module.start + image->module.file_offset;
    }
    if (image && tt_symbol_image_open(image)) {
        frame.offset = address - image->bias;
        tt_symbol_line_at(image, pc, &frame.file, &frame.line);
        int rc = add_dwarf_frames(image, pc, list, &frame);
        if (rc)
            return rc;
        if (!*frame.function) {
            GElf_Off offset;
            GElf_Sym sym;
            const char *name =
                dwfl_module_addrinfo(image->mod, pc, &offset, &sym, NULL, NULL, NULL);
            if (name && *name)
                frame.function = tt_symbol_name(symbols, name);
        }
    }
    return tt_vec_push(list, frame);
}

int tt_symbol_lookup(struct tt_symbols *symbols, uint64_t address, bool is_return,
                     const struct tt_symbol_frame **frames, size_t *n)
{
    uint64_t key = address * 2 + is_return;
    const uint64_t *at = tt_map_get(&symbols->cache, key);
    if (!at) {
        struct frame_list list = {0};
        int rc = find_frames(symbols, address, is_return && address ? address - 1 : address, &list);
        struct tt_symbol_answer answer = {list.data, list.len};
        if (rc || tt_vec_push(&symbols->answers, answer)) {
            tt_vec_free(&list);
            return -ENOMEM;
        }
        if (tt_map_put(&symbols->cache, key, symbols->answers.len - 1))
            return -ENOMEM;
        at = tt_map_get(&symbols->cache, key);
    }
    *frames = symbols->answers.data[*at].frames;
    *n = symbols->answers.data[*at].n;
    return symbols->out_of_memory ? -ENOMEM : 0;
}

const char *const *tt_symbol_warnings(struct tt_symbols *symbols, size_t *n)
{
    *n = symbols->warnings.len;
    return symbols->warnings.data;
}

struct tt_symbol_stats tt_symbol_stats(const struct tt_symbols *symbols)
{
    struct tt_symbol_stats stats = {0};
    for (size_t i = 0; i < symbols->images.len; i++) {
        const struct tt_symbol_image *image = &symbols->images.data[i];
        if (!image->tried)
            continue;
        stats.modules++;
        stats.changed += image->changed;
        stats.nameless += !image->mod;
        stats.lineless += image->lineless;
    }
    return stats;
}
