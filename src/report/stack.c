/* SPDX-License-Identifier: Apache-2.0 */
/* Folding stacks. The lists name what never is the place to look for a leak; a frame that is in
 * none of them is shown. JSON keeps every frame. Start: tt_stack_trim. */
#include "report/stack.h"

#include <stdlib.h>
#include <string.h>

#include "fault/plan.h"
#include "report/phrase.h"

/* Modules and function name prefixes of allocators, their wrappers and standard containers. */
static const char *const allocator_modules[] = {
    "libc.so",     "libc-2.",     "ld-linux",    "libstdc++.so",      "libc++.so",
    "libjemalloc", "libtcmalloc", "libmimalloc", "libtelltale-agent", NULL,
};
static const char *const allocator_prefixes[] = {
    "operator new", "std::",       "__gnu_cxx::",  "<std::",  "alloc::", "<alloc::", "core::",
    "<core::",      "hashbrown::", "<hashbrown::", "__rust_", "__rustc", NULL,
};
static const char *const allocator_names[] = {
    "malloc",         "calloc",      "realloc",   "reallocarray", "aligned_alloc", "posix_memalign",
    "memalign",       "valloc",      "strdup",    "strndup",      "g_malloc",      "g_malloc0",
    "g_malloc_n",     "g_malloc0_n", "g_realloc", "g_strdup",     "g_strndup",     "g_slice_alloc",
    "g_slice_alloc0", "xmalloc",     "xcalloc",   "xrealloc",     "xstrdup",       NULL,
};
static const char *const start_names[] = {
    "_start",
    "__libc_start_main",
    "__libc_start_main_impl",
    "__libc_start_call_main",
    "start_thread",
    "clone",
    "clone3",
    "__clone",
    "__clone3",
    "execute_native_thread_routine",
    "lang_start",
    "__rust_begin_short_backtrace",
    NULL,
};
static const char *const start_prefixes[] = {
    "std::rt::",
    "std::sys::",
    "std::thread::",
    "std::__invoke",
    "std::panic",
    "core::ops::function::",
    "std::_Function_handler",
    NULL,
};

static bool is_one_of(const char *const *list, const char *name)
{
    for (; *list; list++)
        if (!strcmp(*list, name))
            return true;
    return false;
}

static bool begins_with_one_of(const char *const *list, const char *name)
{
    for (; *list; list++)
        if (!strncmp(*list, name, strlen(*list)))
            return true;
    return false;
}

static bool is_allocator(const struct tt_symbol_frame *frame)
{
    return begins_with_one_of(allocator_modules, tt_phrase_base(frame->module)) ||
           begins_with_one_of(allocator_prefixes, frame->function) ||
           is_one_of(allocator_names, frame->function);
}

static bool is_start(const struct tt_symbol_frame *frame)
{
    return is_one_of(start_names, frame->function) ||
           begins_with_one_of(start_prefixes, frame->function) ||
           begins_with_one_of(allocator_modules, tt_phrase_base(frame->module));
}

struct tt_stack_view tt_stack_trim(const struct tt_symbol_frame *frames, size_t n)
{
    struct tt_stack_view view = {.end = n};
    while (view.first < n && is_allocator(&frames[view.first]))
        view.first++;
    if (view.first == n) {
        view.first = 0;
        return view;
    }
    if (view.first && *frames[view.first - 1].function)
        view.through = &frames[view.first - 1];
    while (view.end > view.first + 1 && is_start(&frames[view.end - 1]))
        view.end--;
    view.folded_start = n - view.end;
    return view;
}

size_t tt_report_top_frame(const struct tt_symbol_frame *frames, size_t n)
{
    return tt_stack_trim(frames, n).first;
}

/* Replaces what stands inside the outermost <...> by "...". Operators such as << and -> hold these
 * characters without being brackets, so names with them are left alone. */
static char *without_arguments(const char *name)
{
    struct tt_text out = {0};
    int depth = 0;
    tt_text_add_bytes(&out, "", 0);
    for (const char *p = name; *p; p++) {
        if (*p == '<' && depth++ == 0)
            tt_text_add(&out, "<...");
        if (*p == '>' && depth && --depth == 0) {
            tt_text_add_bytes(&out, ">", 1);
            continue;
        }
        if (!depth)
            tt_text_add_bytes(&out, p, 1);
    }
    if (out.failed || depth) {
        tt_text_free(&out);
        return strdup(name);
    }
    return out.data;
}

void tt_stack_name(struct tt_text *out, const struct tt_symbol_frame *frame, size_t max)
{
    if (!*frame->function) {
        if (strcmp(frame->module, TT_FAULT_CHILD_MODULE) == 0)
            tt_text_add(out, "in a forked child");
        else if (*frame->module)
            tt_text_add(out, "%s+0x%llx", tt_phrase_base(frame->module),
                        (unsigned long long)frame->offset);
        else
            tt_text_add(out, "0x%llx", (unsigned long long)frame->offset);
        return;
    }
    char *name = tt_article_clean(frame->function);
    if (name && tt_article_width(name) > max && !strstr(name, "operator")) {
        char *shorter = without_arguments(name);
        free(name);
        name = shorter;
    }
    if (!name) {
        out->failed = 1;
        return;
    }
    size_t width = 0, end = 0;
    while (name[end] && width < max) {
        end++;
        while (((unsigned char)name[end] & 0xc0) == 0x80)
            end++;
        width++;
    }
    tt_text_add(out, "%.*s%s", (int)end, name, name[end] ? "..." : "");
    free(name);
}

void tt_stack_place(struct tt_text *out, const struct tt_symbol_frame *frame)
{
    if (*frame->file && frame->line)
        tt_text_add(out, "%s:%u", tt_phrase_base(frame->file), frame->line);
    else if (*frame->file)
        tt_text_add(out, "%s", tt_phrase_base(frame->file));
    else if (*frame->function && *frame->module)
        tt_text_add(out, "%s", tt_phrase_base(frame->module));
}
