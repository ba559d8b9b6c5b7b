/* SPDX-License-Identifier: Apache-2.0 */
/* Function lookup while recording. Only symbol tables of local files are read here, never debug
 * information from the network: the recorder's clock must not wait. Start: tt_functions_find. */
#include "cmd/functions.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"

static int open_for(struct tt_functions *f, const struct tt_session_module *modules, size_t n,
                    struct tt_error *err)
{
    uint64_t hash = n;
    for (size_t i = 0; i < n; i++)
        hash = tt_map_mix(hash ^ modules[i].start ^ modules[i].end << 20 ^ modules[i].since_ns);
    if (f->symbols && hash == f->modules_hash)
        return 0;
    tt_functions_close(f);
    struct tt_symbol_module *list = calloc(n ? n : 1, sizeof *list);
    if (!list)
        return tt_error_set(err, -ENOMEM, "out of memory");
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (!modules[i].until_ns)
            list[kept++] = (struct tt_symbol_module){
                .path = modules[i].path,
                .build_id = modules[i].build_id,
                .start = modules[i].start,
                .end = modules[i].end,
                .file_offset = modules[i].file_offset,
                .file_size = modules[i].file_size,
                .mtime = modules[i].mtime,
            };
    const struct tt_symbol_options options = {.sysroot = f->root};
    f->symbols = tt_symbol_open(list, kept, &options, err);
    f->modules_hash = hash;
    free(list);
    return f->symbols ? 0 : -ENOMEM;
}

void tt_functions_close(struct tt_functions *functions)
{
    if (functions->symbols)
        tt_symbol_close(functions->symbols);
    *functions = (struct tt_functions){.root = functions->root};
}

static void copy(struct tt_record_function *out, const struct tt_symbol_function *in)
{
    snprintf(out->name, sizeof out->name, "%s", in->name);
    out->entry = in->entry;
    out->size = in->size;
    out->cplusplus = strncmp(in->linkage, "_Z", 2) == 0;
}

int tt_functions_find(struct tt_functions *functions, const struct tt_session_module *modules,
                      size_t n, const char *name, struct tt_record_function *out,
                      struct tt_error *err)
{
    struct tt_symbol_function found;
    int r = open_for(functions, modules, n, err);
    if (r == 0)
        r = tt_symbol_find(functions->symbols, name, &found, err);
    if (r == 0)
        copy(out, &found);
    return r;
}

/* Entered once in a process's or thread's life, or on every call of everything: no operation. */
static bool starts_or_serves_all(const struct tt_symbol_function *f)
{
    static const char *const names[] = {"main",         "_start",       "__libc_start_main",
                                        "start_thread", "clone",        "clone3",
                                        "thread_start", "operator new", "operator new[]"};
    static const char *const libraries[] = {
        "libc.so",     "libc-",       "ld-linux",    "libpthread",   "libstdc++", "libgcc_s",
        "libjemalloc", "libtcmalloc", "libmimalloc", "libtelltale-", "[vdso]"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(f->name, names[i]) == 0)
            return true;
    const char *base = strrchr(f->module, '/');
    base = base ? base + 1 : f->module;
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++)
        if (strncmp(base, libraries[i], strlen(libraries[i])) == 0)
            return true;
    return false;
}

size_t tt_functions_on_stack(struct tt_functions *functions,
                             const struct tt_session_module *modules, size_t n,
                             const uint64_t *frames, size_t n_frames,
                             struct tt_record_function *out, size_t max)
{
    struct tt_error err;
    size_t count = 0;
    if (open_for(functions, modules, n, &err) != 0)
        return 0;
    for (size_t i = 0; i < n_frames && count < max; i++) {
        struct tt_symbol_function found;
        if (tt_symbol_enclosing(functions->symbols, frames[i], true, &found) != 0 ||
            starts_or_serves_all(&found))
            continue;
        size_t k = 0;
        while (k < count && out[k].entry != found.entry)
            k++;
        if (k == count)
            copy(&out[count++], &found);
    }
    return count;
}
