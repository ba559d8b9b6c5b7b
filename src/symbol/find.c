/* SPDX-License-Identifier: Apache-2.0 */
/* Functions by name and by the address within them, from symbol tables: these are what can be
 * entered and counted, inlined copies cannot. Start: tt_symbol_find. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "symbol/internal.h"

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Length of a symbol's name without the version that a linker may leave on it ("memcpy@@V"). */
static size_t bare_length(const char *name)
{
    return strcspn(name, "@");
}

static bool is_function(const GElf_Sym *sym)
{
    return GELF_ST_TYPE(sym->st_info) == STT_FUNC && sym->st_shndx != SHN_UNDEF;
}

/* One question by name, prepared. */
struct query {
    char *name;        /* before '@' */
    const char *where; /* after it, or NULL */
    char key[64];      /* an identifier that every mangled form of name contains, or "" */
};

static int prepare(struct query *query, const char *text)
{
    *query = (struct query){.name = strdup(text)};
    if (!query->name)
        return -ENOMEM;
    char *at = strchr(query->name, '@');
    if (at) {
        *at = '\0';
        query->where = at + 1;
    }
    /* Mangled names spell the function's own identifier out; operators they do not. */
    if (!strstr(query->name, "operator")) {
        size_t end = strcspn(query->name, "<("), begin = end;
        while (begin &&
               (isalnum((unsigned char)query->name[begin - 1]) || query->name[begin - 1] == '_'))
            begin--;
        if (end - begin < sizeof query->key)
            memcpy(query->key, query->name + begin, end - begin);
    }
    return 0;
}

static bool name_matches(const struct query *query, const char *linkage)
{
    size_t len = bare_length(linkage);
    if (!strncmp(linkage, query->name, len) && !query->name[len])
        return true;
    if (!tt_symbol_is_mangled(linkage) || !strstr(linkage, query->key))
        return false;
    char *name = tt_symbol_demangle(linkage, strchr(query->name, '(') != NULL);
    bool same = name && !strcmp(name, query->name);
    free(name);
    return same;
}

struct candidate {
    struct tt_symbol_function function;
    const char *source; /* file name of the source, "" unknown */
    unsigned line;
};

struct candidates {
    struct candidate *data;
    size_t len, cap;
};

static int add_candidate(struct candidates *list, struct tt_symbol_image *image,
                         const char *linkage, const char *symtab_file, uint64_t entry,
                         const GElf_Sym *sym)
{
    struct tt_symbols *symbols = image->owner;
    for (size_t i = 0; i < list->len; i++)
        if (list->data[i].function.entry == entry)
            return 0; /* an alias, or a second mapping of the file */
    struct candidate found = {
        .function = {entry, sym->st_size, tt_symbol_name(symbols, linkage),
                     tt_symbol_intern(symbols, linkage), image->module.path},
    };
    if (!tt_symbol_line_at(image, entry, &found.source, &found.line))
        found.source = tt_symbol_intern(symbols, symtab_file);
    return tt_vec_push(list, found);
}

static int collect(struct tt_symbol_image *image, const struct query *query,
                   struct candidates *list)
{
    int n = dwfl_module_getsymtab(image->mod), rc = 0;
    const char *file = "";
    for (int i = 1; i < n && !rc; i++) {
        GElf_Sym sym;
        GElf_Addr entry;
        const char *name = dwfl_module_getsym_info(image->mod, i, &sym, &entry, NULL, NULL, NULL);
        if (!name)
            continue;
        if (GELF_ST_TYPE(sym.st_info) == STT_FILE)
            file = name;
        else if (is_function(&sym) && name_matches(query, name))
            rc = add_candidate(list, image, name,
                               GELF_ST_BIND(sym.st_info) == STB_LOCAL ? file : "", entry, &sym);
    }
    return rc;
}

static void keep_where(struct candidates *list, const char *where)
{
    size_t kept = 0;
    for (size_t i = 0; i < list->len; i++) {
        const struct candidate *c = &list->data[i];
        if (!strcmp(base_name(c->function.module), where) || !strcmp(base_name(c->source), where))
            list->data[kept++] = *c;
    }
    list->len = kept;
}

static int say_ambiguous(const struct query *query, const struct candidates *list,
                         struct tt_error *err)
{
    enum { SHOWN = 4 };
    char text[360] = "";
    for (size_t i = 0, used = 0; i < list->len && i < SHOWN && used < sizeof text; i++) {
        const struct candidate *c = &list->data[i];
        int n =
            *c->source
                ? snprintf(text + used, sizeof text - used, "%s%s:%u in %s", i ? ", " : "",
                           base_name(c->source), c->line, base_name(c->function.module))
                : snprintf(text + used, sizeof text - used, "%s0x%llx in %s", i ? ", " : "",
                           (unsigned long long)c->function.entry, base_name(c->function.module));
        used += n > 0 ? (size_t)n : 0;
    }
    return tt_error_set(err, -ENOTUNIQ,
                        "%zu functions are called \"%.80s\" (%s%s): say %.80s@FILE or a parameter "
                        "list",
                        list->len, query->name, text, list->len > SHOWN ? ", ..." : "",
                        query->name);
}

int tt_symbol_find(struct tt_symbols *symbols, const char *name, struct tt_symbol_function *out,
                   struct tt_error *err)
{
    struct query query;
    struct candidates list = {0};
    size_t nameless = 0, looked = 0;
    int rc = prepare(&query, name);
    for (size_t i = 0; i < symbols->images.len && !rc; i++) {
        struct tt_symbol_image *image = &symbols->images.data[i];
        if (image->path[0] != '/')
            continue;
        looked++;
        if (tt_symbol_image_open(image))
            rc = collect(image, &query, &list);
        else
            nameless++;
    }
    if (!rc && symbols->out_of_memory)
        rc = -ENOMEM;
    if (rc) {
        tt_error_set(err, rc, "out of memory looking for function \"%s\"", name);
        goto out;
    }
    if (query.where)
        keep_where(&list, query.where);
    if (list.len == 1)
        *out = list.data[0].function;
    else if (list.len)
        rc = say_ambiguous(&query, &list, err);
    else if (nameless)
        rc = tt_error_set(err, -ENOENT,
                          "no function \"%s\" in %zu modules, %zu of them without symbols: install "
                          "debug symbols, or give --debug-path",
                          name, looked, nameless);
    else
        rc = tt_error_set(err, -ENOENT,
                          "no function \"%s\" in %zu modules: it may be inlined, stripped or "
                          "spelled otherwise",
                          name, looked);
out:
    tt_vec_free(&list);
    free(query.name);
    return rc;
}

/* GCC and clang move unlikely code of f to f.cold, which nothing enters from outside: the symbol
 * named f that stands nearest before or after it in the table (the same object file). */
static bool warm_part(struct tt_symbol_image *image, const char *cold, uint64_t cold_entry,
                      GElf_Sym *sym, GElf_Addr *entry)
{
    size_t len = (size_t)(strstr(cold, ".cold") - cold);
    int n = dwfl_module_getsymtab(image->mod), at = -1, best = -1;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 1; i < n; i++) {
            GElf_Sym s;
            GElf_Addr a;
            const char *name = dwfl_module_getsym_info(image->mod, i, &s, &a, NULL, NULL, NULL);
            if (!name || !is_function(&s))
                continue;
            if (pass == 0 && a == cold_entry && !strcmp(name, cold))
                at = i;
            else if (pass == 1 && !strncmp(name, cold, len) && !name[len] &&
                     (best < 0 || abs(i - at) < abs(best - at))) {
                best = i;
                *sym = s;
                *entry = a;
            }
        }
    }
    return best >= 0;
}

int tt_symbol_enclosing(struct tt_symbols *symbols, uint64_t address, bool is_return,
                        struct tt_symbol_function *out)
{
    uint64_t pc = is_return && address ? address - 1 : address;
    struct tt_symbol_image *image = tt_symbol_image_at(symbols, pc);
    if (!image || !tt_symbol_image_open(image))
        return -ENOENT;
    GElf_Off offset;
    GElf_Sym sym;
    const char *name = dwfl_module_addrinfo(image->mod, pc, &offset, &sym, NULL, NULL, NULL);
    if (!name || !is_function(&sym))
        return -ENOENT;
    GElf_Addr entry = pc - offset;
    char *linkage = strndup(name, bare_length(name));
    if (!linkage)
        return -ENOMEM;
    char *cold = strstr(linkage, ".cold");
    if (cold && warm_part(image, name, entry, &sym, &entry))
        *cold = '\0';
    *out = (struct tt_symbol_function){entry, sym.st_size, tt_symbol_name(symbols, linkage),
                                       tt_symbol_intern(symbols, linkage), image->module.path};
    free(linkage);
    return symbols->out_of_memory ? -ENOMEM : 0;
}
