/* SPDX-License-Identifier: Apache-2.0 */
/* The table of allocators. A process can have two at work at once (a preloaded one for the program,
 * glibc's for the loader), so every one is asked. Start: tt_heap_walk. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heap/internal_image.h"

static const struct tt_heap_allocator *const table[] = {&tt_heap_glibc, &tt_heap_jemalloc};

static int by_start(const void *a, const void *b)
{
    const struct tt_heap_span *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

void tt_heap_spans_settle(struct tt_heap_blocks *blocks)
{
    struct tt_heap_span *s = blocks->internal.data;
    size_t kept = 0;
    if (blocks->internal.len)
        qsort(s, blocks->internal.len, sizeof *s, by_start);
    for (size_t i = 0; i < blocks->internal.len; i++)
        if (kept && s[i].start <= s[kept - 1].end)
            s[kept - 1].end = s[i].end > s[kept - 1].end ? s[i].end : s[kept - 1].end;
        else
            s[kept++] = s[i];
    blocks->internal.len = kept;
}

static int by_address(const void *a, const void *b)
{
    const struct tt_heap_block *x = a, *y = b;
    return x->address < y->address ? -1 : x->address > y->address;
}

/* Ascending, and without a block that begins inside the one before. */
static void settle(struct tt_heap_blocks *blocks)
{
    struct tt_heap_block *b = blocks->list.data;
    size_t n = blocks->list.len, i = 1, kept = 0;
    tt_heap_spans_settle(blocks);
    while (i < n && b[i].address - b[i - 1].address >= b[i - 1].size &&
           b[i].address > b[i - 1].address)
        i++;
    if (i >= n)
        return;
    qsort(b, n, sizeof *b, by_address);
    for (i = 0; i < n; i++)
        if (kept && b[i].address - b[kept - 1].address < b[kept - 1].size)
            blocks->doubt_bytes += b[i].size;
        else
            b[kept++] = b[i];
    blocks->list.len = kept;
}

int tt_heap_walk(const struct tt_heap_image *image, struct tt_heap_blocks *out,
                 struct tt_error *err)
{
    char names[64] = "", looked_for[64] = "";
    *out = (struct tt_heap_blocks){0};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        size_t used = strlen(names), used_for = strlen(looked_for);
        snprintf(looked_for + used_for, sizeof looked_for - used_for, "%s%s", used_for ? ", " : "",
                 table[i]->name);
        out->allocator[0] = '\0';
        int rc = table[i]->walk(image, out, err);
        if (rc == -ENOENT)
            continue;
        if (rc) {
            tt_heap_blocks_free(out);
            return rc;
        }
        snprintf(names + used, sizeof names - used, "%s%.40s", used ? ", " : "", out->allocator);
    }
    if (!names[0]) {
        tt_heap_blocks_free(out);
        if (image->unread_bytes)
            return tt_error_set(err, -ENOENT,
                                "no heap was found (looked for %s) in what could be read: %.1f MB "
                                "of the process are missing, as in a truncated core file",
                                looked_for, (double)image->unread_bytes / 1e6);
        return tt_error_set(err, -ENOENT,
                            "no heap was found (looked for %s): what the program allocates with is "
                            "not known; telltale attach and run record its calls instead",
                            looked_for);
    }
    memcpy(out->allocator, names, sizeof names);
    settle(out);
    return 0;
}

void tt_heap_blocks_free(struct tt_heap_blocks *blocks)
{
    tt_vec_free(&blocks->list);
    tt_vec_free(&blocks->internal);
}
