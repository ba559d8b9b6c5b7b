/* SPDX-License-Identifier: Apache-2.0 */
/* An image's ranges: what kind of memory each is, and reading at an address. Kinds come from the
 * mapping itself and from the program headers of the module it belongs to, which alone say where a
 * module's bss ends: the kernel joins anonymous mappings that happen to touch.
 * Start: tt_heap_image_classify. */
#include <elf.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/blob.h"
#include "agent/region.h"
#include "heap/internal_image.h"
#include "tape/tape.h"

size_t tt_heap_range_from(const struct tt_heap_image *image, uint64_t address)
{
    size_t lo = 0, hi = image->ranges.len;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (image->ranges.data[mid].end <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const struct tt_heap_range *tt_heap_range_at(const struct tt_heap_image *image, uint64_t address)
{
    size_t i = tt_heap_range_from(image, address);
    const struct tt_heap_range *r = image->ranges.data + i;
    return i < image->ranges.len && r->start <= address ? r : NULL;
}

const uint8_t *tt_heap_bytes(const struct tt_heap_image *image, uint64_t address, uint64_t n)
{
    const struct tt_heap_range *r = tt_heap_range_at(image, address);
    return r && r->bytes && r->end - address >= n ? r->bytes + (address - r->start) : NULL;
}

bool tt_heap_word(const struct tt_heap_image *image, uint64_t address, uint64_t *out)
{
    const uint8_t *at = tt_heap_bytes(image, address, sizeof *out);
    if (at)
        memcpy(out, at, sizeof *out);
    return at != NULL;
}

static bool in_views(const struct tt_heap_range *r)
{
    return r->bytes && r->kind != TT_HEAP_TEXT && r->kind != TT_HEAP_OURS;
}

bool tt_heap_view_at(const struct tt_heap_image *image, uint64_t address, struct tt_heap_view *out)
{
    const struct tt_heap_range *r = tt_heap_range_at(image, address);
    if (!r || !in_views(r))
        return false;
    const struct tt_heap_range *first = r, *last = r;
    const struct tt_heap_range *begin = image->ranges.data, *end = begin + image->ranges.len;
    while (first > begin && first[-1].end == first->start && in_views(first - 1) &&
           first[-1].bytes + (first[-1].end - first[-1].start) == first->bytes)
        first--;
    while (last + 1 < end && last->end == last[1].start && in_views(last + 1) &&
           last->bytes + (last->end - last->start) == last[1].bytes)
        last++;
    *out = (struct tt_heap_view){first->start, last->end, first->bytes};
    return true;
}

void tt_heap_image_free(struct tt_heap_image *image)
{
    if (image->free)
        image->free(image);
    tt_vec_free(&image->ranges);
    tt_vec_free(&image->threads);
    tt_vec_free(&image->kernel_roots);
    *image = (struct tt_heap_image){0};
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Files of telltale that are mapped into a target: tapes, the preloaded agent. */
static bool is_ours(const struct tt_heap_range *r)
{
    const char *name = base_name(r->path);
    if (r->kind == TT_HEAP_SHARED)
        return strncmp(r->path, "/memfd:telltale", 15) == 0 ||
               (r->path[0] == '/' && strncmp(name, "tape.", 5) == 0);
    return strncmp(name, "libtelltale", 11) == 0 && strstr(name, ".so");
}

/* The writable segments of the module that is mapped at base, as run-time addresses. */
struct segments {
    unsigned n;
    struct tt_heap_span span[8];
};
static bool read_segments(tt_heap_read_fn *read, void *arg, uint64_t base, struct segments *out)
{
    Elf64_Ehdr eh;
    Elf64_Phdr ph[32];
    out->n = 0;
    if (read(arg, base, &eh, sizeof eh) != 0 || memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0 ||
        eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_phentsize != sizeof *ph || eh.e_phoff > 1 << 20)
        return false;
    unsigned count = eh.e_phnum < 32 ? eh.e_phnum : 32;
    if (read(arg, base + eh.e_phoff, ph, count * sizeof *ph) != 0)
        return false;
    uint64_t low = UINT64_MAX;
    for (unsigned i = 0; i < count; i++)
        if (ph[i].p_type == PT_LOAD && ph[i].p_vaddr < low)
            low = ph[i].p_vaddr;
    uint64_t bias = base - (low & ~4095ull);
    for (unsigned i = 0; i < count && out->n < 8; i++)
        if (ph[i].p_type == PT_LOAD && (ph[i].p_flags & PF_W) != 0 && ph[i].p_memsz < 1ull << 46)
            out->span[out->n++] =
                (struct tt_heap_span){bias + (ph[i].p_vaddr & ~4095ull),
                                      bias + ((ph[i].p_vaddr + ph[i].p_memsz + 4095) & ~4095ull)};
    return true;
}

static bool is_module(const struct tt_heap_range *r)
{
    return r->path[0] == '/' && r->kind != TT_HEAP_SHARED;
}

/* Cuts range i at address and gives the first part kind DATA; the rest stays what it was. */
static int split(struct tt_heap_image *image, size_t i, uint64_t at)
{
    struct tt_heap_range rest = image->ranges.data[i];
    if (at >= rest.end)
        return 0;
    if (tt_vec_push(&image->ranges, rest))
        return -ENOMEM;
    struct tt_heap_range *r = &image->ranges.data[i];
    memmove(r + 2, r + 1, (image->ranges.len - i - 2) * sizeof *r);
    r[1] = rest;
    r[1].file_offset += at - r->start;
    if (rest.bytes)
        r[1].bytes += at - r->start;
    r[1].start = r->end = at;
    return 0;
}

/* Kinds of the mappings of one module, which start at *i; steps over them. */
static int classify_module(struct tt_heap_image *image, size_t *i, tt_heap_read_fn *read, void *arg)
{
    struct tt_heap_range *r = &image->ranges.data[*i];
    const char *path = r->path;
    bool ours = is_ours(r);
    struct segments segments = {0};
    bool elf = r->file_offset == 0 && read_segments(read, arg, r->start, &segments);
    uint64_t next_offset = 0;
    for (; *i < image->ranges.len; ++*i) {
        r = &image->ranges.data[*i];
        bool own = is_module(r) && strcmp(r->path, path) == 0;
        const struct tt_heap_span *in = NULL;
        for (unsigned s = 0; s < segments.n; s++)
            if (r->start >= segments.span[s].start && r->start < segments.span[s].end)
                in = &segments.span[s];
        if (own && r->file_offset == 0 && r->start != image->ranges.data[*i - (*i > 0)].start &&
            next_offset && elf)
            return 0; /* the same file mapped once more */
        if (!own && (!in || r->path[0] || r->kind != TT_HEAP_ANON))
            return 0;
        if (!own && in->end < r->end && split(image, *i, in->end))
            return -ENOMEM;
        r = &image->ranges.data[*i];
        if (!own) {
            r->path = path;
            r->file_offset = next_offset;
        }
        r->kind = ours ? TT_HEAP_OURS : r->write || in ? TT_HEAP_DATA : TT_HEAP_TEXT;
        next_offset = r->file_offset + (r->end - r->start);
    }
    return 0;
}

static void mark_ours(struct tt_heap_image *image, uint64_t start, uint64_t end)
{
    for (size_t i = tt_heap_range_from(image, start); i < image->ranges.len; i++) {
        struct tt_heap_range *r = &image->ranges.data[i];
        if (r->start >= end)
            return;
        if (r->start >= start && r->end <= end)
            r->kind = TT_HEAP_OURS;
    }
}

/* The blob lies in anonymous memory that is executable in part; its own struct says where. */
static void find_blob(struct tt_heap_image *image, tt_heap_read_fn *read, void *arg)
{
    enum { LOOK = 1 << 20 };
    uint64_t *words = malloc(4096);
    for (size_t i = 0; words && i < image->ranges.len; i++) {
        const struct tt_heap_range *r = &image->ranges.data[i];
        if (r->kind != TT_HEAP_ANON || r->path[0] || !r->exec)
            continue;
        uint64_t end = r->start + LOOK;
        for (size_t k = i; k < image->ranges.len && image->ranges.data[k].start < end; k++) {
            const struct tt_heap_range *d = &image->ranges.data[k];
            if (d->kind != TT_HEAP_ANON || !d->write || d->end - d->start > LOOK)
                continue;
            for (uint64_t page = d->start; page < d->end; page += 4096) {
                if (read(arg, page, words, 4096) != 0)
                    break;
                for (unsigned w = 0; w < 512; w++) {
                    struct tt_blob blob;
                    if (words[w] != TT_BLOB_MAGIC ||
                        read(arg, page + w * 8ull, &blob, offsetof(struct tt_blob, patch)) != 0 ||
                        blob.size > LOOK * 64ull || page < blob.base ||
                        page >= blob.base + blob.size)
                        continue;
                    mark_ours(image, blob.base, blob.base + blob.size);
                    for (unsigned n = 0; n < TT_BLOB_ISLANDS; n++)
                        if (blob.island[n].size <= LOOK)
                            mark_ours(image, blob.island[n].base,
                                      blob.island[n].base + blob.island[n].size);
                    goto out;
                }
            }
        }
    }
out:
    free(words);
}

static void find_stacks(struct tt_heap_image *image)
{
    for (size_t i = 0; i < image->threads.len; i++) {
        uint64_t rsp = image->threads.data[i].regs.rsp;
        size_t n = tt_heap_range_from(image, rsp);
        struct tt_heap_range *r = &image->ranges.data[n];
        if (n < image->ranges.len && r->start <= rsp && r->kind == TT_HEAP_ANON)
            r->kind = TT_HEAP_STACK;
    }
}

int tt_heap_image_classify(struct tt_heap_image *image, tt_heap_read_fn *read, void *arg)
{
    for (size_t i = 0; i < image->ranges.len;) {
        struct tt_heap_range *r = &image->ranges.data[i];
        if (is_module(r)) {
            size_t before = i;
            if (classify_module(image, &i, read, arg))
                return -ENOMEM;
            if (i == before)
                i++;
            continue;
        }
        if (r->kind == TT_HEAP_SHARED && is_ours(r))
            r->kind = TT_HEAP_OURS;
        else if (strcmp(r->path, "[stack]") == 0)
            r->kind = TT_HEAP_STACK;
        else if (strcmp(r->path, "[vdso]") == 0)
            r->kind = TT_HEAP_TEXT;
        else if (r->kind == TT_HEAP_ANON)
            r->path = ""; /* [heap], [anon:name] */
        i++;
    }
    find_stacks(image);
    find_blob(image, read, arg);
    return 0;
}
