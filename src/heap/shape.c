/* SPDX-License-Identifier: Apache-2.0 */
/* What a block looks like, without types: which of its words point into which place of which
 * module (a vtable, a static string, a function), which to other blocks and of what size, which are
 * text, which small numbers. Two blocks from one place of a program mostly agree in this, whatever
 * their counters, texts and neighbours are, and blocks from different places mostly do not
 * (patterns and signatures in this sense: chap, DESIGN 6). Start: tt_heap_shape_of. */
#include "heap/internal.h"
#include "heap/internal_image.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { WORDS = 16, LAST = 255, SHOWN = 2 * WORDS };

enum kind {
    SMALL, /* zero, a counter, a pair of them, or what a free list left behind */
    TEXT,
    OTHER, /* a large number, a double, an address that is mapped no more */
    OWN,   /* into the block itself */
    BLOCK,
    MODULE,
    MEMORY, /* a stack or another mapping */
};
struct word {
    enum kind kind;
    uint64_t value;
    uint32_t block;                    /* BLOCK */
    const struct tt_heap_range *range; /* MODULE */
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int tt_heap_shaper_make(const struct tt_heap_index *index, const struct tt_heap_blocks *blocks,
                        struct tt_heap_shaper *out)
{
    const struct tt_heap_image *image = index->image;
    *out = (struct tt_heap_shaper){.index = index, .blocks = blocks};
    out->modules = calloc(image->ranges.len + 1, sizeof *out->modules);
    if (!out->modules)
        return -ENOMEM;
    struct tt_map lowest = {0};
    for (size_t i = 0; i < image->ranges.len; i++) {
        const struct tt_heap_range *r = &image->ranges.data[i];
        if (r->path[0] != '/' || (r->kind != TT_HEAP_DATA && r->kind != TT_HEAP_TEXT))
            continue;
        uint64_t path = tt_map_hash(r->path, strlen(r->path));
        const char *name = base_name(r->path);
        uint64_t *base = tt_map_get(&lowest, path);
        if (!base && tt_map_put(&lowest, path, r->start)) {
            tt_map_free(&lowest);
            tt_heap_shaper_free(out);
            return -ENOMEM;
        }
        out->modules[i] =
            (struct tt_heap_module){tt_map_hash(name, strlen(name)) | 1, base ? *base : r->start};
    }
    tt_map_free(&lowest);
    return 0;
}

void tt_heap_shaper_free(struct tt_heap_shaper *shaper)
{
    free(shaper->modules);
    *shaper = (struct tt_heap_shaper){0};
}

static bool printable(unsigned c)
{
    return (c >= 0x20 && c < 0x7f) || c == '\t' || c == '\n' || c == '\r';
}

/* Eight printable bytes, or at least three before a NUL. */
static bool is_text(uint64_t word)
{
    unsigned n = 0;
    while (n < 8 && printable((unsigned)(word >> 8 * n & 0xff)))
        n++;
    return n == 8 || (n >= 3 && !(word >> 8 * n & 0xff));
}

static bool is_small(uint64_t word)
{
    return word <= UINT32_MAX || ((word & UINT32_MAX) < 0x10000 && word >> 32 < 0x10000) ||
           word == UINT64_MAX;
}

static bool is_internal(const struct tt_heap_blocks *blocks, uint64_t address)
{
    size_t low = 0, high = blocks->internal.len;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (blocks->internal.data[mid].end <= address)
            low = mid + 1;
        else
            high = mid;
    }
    return low < blocks->internal.len && blocks->internal.data[low].start <= address;
}

static struct word look(const struct tt_heap_shaper *s, uint32_t self, uint64_t value)
{
    struct word w = {.kind = SMALL, .value = value};
    if (value < 4096)
        return w;
    if (!(value >> TT_HEAP_ADDRESS_BITS)) {
        w.block = tt_heap_find(s->index, value);
        if (w.block != TT_HEAP_NONE) {
            w.kind = w.block == self ? OWN : BLOCK;
            return w;
        }
        w.range = tt_heap_range_at(s->index->image, value);
        if (w.range && is_internal(s->blocks, value))
            return w;
        if (w.range) {
            bool module = s->modules[w.range - s->index->image->ranges.data].name != 0;
            w.kind = module ? MODULE : MEMORY;
            return w;
        }
    }
    if (is_text(value))
        w.kind = TEXT;
    else if (!is_small(value))
        w.kind = OTHER;
    return w;
}

static uint64_t join(uint64_t key, uint64_t position, uint64_t kind, uint64_t detail)
{
    return tt_map_mix(key ^ tt_map_mix(detail + (position << 56) + (kind << 50)));
}

/* Sizes of what is pointed to vary with texts and counts: octaves. Own sizes are exact while a
 * record may have them, then four to the octave. */
static uint64_t octave(uint64_t size)
{
    return (uint64_t)(63 - __builtin_clzll(size | 1));
}
static uint64_t own_size(uint64_t size)
{
    if (size <= 1024)
        return size;
    unsigned drop = (unsigned)octave(size) - 2;
    return size >> drop << drop;
}

/* Words of the block from byte `from` on, at most *n, which becomes how many there are; of memory
 * that is read late, in the buffer. */
static const uint64_t *peek(const struct tt_heap_index *x, uint32_t block, uint64_t from,
                            uint64_t *buffer, uint64_t *n)
{
    uint64_t most = *n;
    const uint64_t *words = tt_heap_words(x, block, from, n);
    *n = *n < most ? *n : most;
    bool late = *n && x->image->pager &&
                tt_heap_pager_peek(x->image->pager, (const uint8_t *)words, buffer, *n * 8);
    return late ? buffer : words;
}

/* Calls see() for the first words of `size` bytes and the last. */
static void each_word(const struct tt_heap_shaper *s, uint32_t block, uint64_t size,
                      void (*see)(void *arg, unsigned position, struct word w), void *arg)
{
    uint64_t buffer[WORDS], words = size / 8, n = words < WORDS ? words : WORDS;
    const uint64_t *p = peek(s->index, block, 0, buffer, &n);
    for (unsigned i = 0; i < n; i++)
        see(arg, i, look(s, block, p[i]));
    n = 1;
    if (words > WORDS && (p = peek(s->index, block, (words - 1) * 8, buffer, &n)) && n)
        see(arg, LAST, look(s, block, *p));
}

struct sum {
    const struct tt_heap_shaper *shaper;
    uint64_t address;
    uint64_t modules, kinds, values;
    bool in_text; /* what follows a text's first word is the text or its leftovers */
};

static void add_word(void *arg, unsigned position, struct word w)
{
    struct sum *sum = arg;
    const struct tt_heap_index *x = sum->shaper->index;
    switch (w.kind) {
    case SMALL:
        /* Flags and type tags are below 256, in one or both halves of the word. */
        if (w.value && !sum->in_text && (w.value & UINT32_MAX) < 256 && w.value >> 32 < 256)
            sum->values = join(sum->values, position, SMALL, w.value);
        return;
    case MODULE: {
        const struct tt_heap_module *m = &sum->shaper->modules[w.range - x->image->ranges.data];
        sum->modules = join(sum->modules, position, MODULE, m->name + (w.value - m->base));
        return;
    }
    case BLOCK:
        sum->kinds = join(sum->kinds, position, BLOCK, octave(x->list[w.block].size));
        return;
    case OWN:
        sum->kinds = join(sum->kinds, position, OWN, w.value - sum->address);
        return;
    case MEMORY:
        sum->kinds = join(sum->kinds, position, MEMORY, 0);
        return;
    case TEXT:
    case OTHER:
        if (!sum->in_text)
            sum->kinds = join(sum->kinds, position, w.kind, 0);
        sum->in_text |= w.kind == TEXT;
        return;
    }
}

void tt_heap_shape_as(const struct tt_heap_shaper *shaper, uint32_t block, uint64_t bytes,
                      struct tt_heap_shape *out)
{
    struct sum sum = {.shaper = shaper, .address = shaper->index->list[block].address};
    each_word(shaper, block, bytes, add_word, &sum);
    uint64_t size = own_size(bytes);
    out->key[TT_HEAP_BY_SIZE] = tt_map_mix(size);
    out->key[TT_HEAP_BY_MODULE] = out->key[TT_HEAP_BY_SIZE] ^ sum.modules;
    out->key[TT_HEAP_BY_KIND] = out->key[TT_HEAP_BY_MODULE] ^ sum.kinds;
    if (size != bytes)
        sum.values = join(sum.values, 0, TEXT, bytes);
    out->key[TT_HEAP_BY_VALUE] = out->key[TT_HEAP_BY_KIND] ^ sum.values;
}

void tt_heap_shape_of(const struct tt_heap_shaper *shaper, uint32_t block,
                      struct tt_heap_shape *out)
{
    tt_heap_shape_as(shaper, block, shaper->index->list[block].size, out);
}

/* ---- for people ---- */

struct text {
    const struct tt_heap_shaper *shaper;
    tt_heap_name_fn *name;
    void *name_arg;
    char *out;
    size_t size, used, said;
    uint64_t text_end; /* position behind the text already shown */
    const uint8_t *bytes;
    uint64_t n_bytes;
};

/* Adds a whole phrase or, when it does not fit, nothing and no more. */
__attribute__((format(printf, 2, 3))) static void say(struct text *t, const char *format, ...)
{
    char phrase[400];
    va_list ap;
    va_start(ap, format);
    vsnprintf(phrase, sizeof phrase, format, ap);
    va_end(ap);
    const char *glue = !t->used ? "" : t->said ? "; " : ": ";
    size_t need = strlen(glue) + strlen(phrase);
    if (t->used + need >= t->size) {
        t->size = t->used;
        return;
    }
    memcpy(t->out + t->used, glue, strlen(glue));
    memcpy(t->out + t->used + strlen(glue), phrase, strlen(phrase) + 1);
    t->said += t->used > 0;
    t->used += need;
}

bool tt_heap_place_text(const struct tt_heap_shaper *shaper, uint64_t address,
                        tt_heap_name_fn *name, void *name_arg, char *out, size_t size)
{
    const struct tt_heap_image *image = shaper->index->image;
    const struct tt_heap_range *r = tt_heap_range_at(image, address);
    if (!r || !shaper->modules[r - image->ranges.data].name)
        return false;
    char symbol[120];
    if (name && !name(name_arg, r->path, r->file_offset + (address - r->start), address, symbol,
                      sizeof symbol)) {
        snprintf(out, size, "%s %s", base_name(r->path), symbol);
        return true;
    }
    const char *part = r->kind == TT_HEAP_DATA ? "data" : r->exec ? "code" : "constants";
    snprintf(out, size, "%s of %s+0x%llx", part, base_name(r->path),
             (unsigned long long)(address - shaper->modules[r - image->ranges.data].base));
    return true;
}

static void say_text(struct text *t, unsigned position)
{
    uint64_t at = (uint64_t)position * 8;
    if (position == LAST || at < t->text_end || at >= t->n_bytes)
        return;
    char shown[40];
    size_t n = 0;
    while (n < sizeof shown - 1 && at + n < t->n_bytes && printable(t->bytes[at + n])) {
        char c = (char)t->bytes[at + n];
        shown[n++] = c < ' ' ? ' ' : c;
    }
    shown[n] = 0;
    t->text_end = at + n;
    while (t->text_end < t->n_bytes && printable(t->bytes[t->text_end]))
        t->text_end++;
    say(t, "+%llu text \"%s\"", (unsigned long long)at, shown);
}

static void say_word(void *arg, unsigned position, struct word w)
{
    struct text *t = arg;
    const struct tt_heap_index *x = t->shaper->index;
    unsigned at = position * 8;
    char place[200];
    if (position == LAST)
        return;
    switch (w.kind) {
    case TEXT:
        say_text(t, position);
        return;
    case MODULE:
        if (at >= t->text_end &&
            tt_heap_place_text(t->shaper, w.value, t->name, t->name_arg, place, sizeof place))
            say(t, "+%u pointer into %s", at, place);
        return;
    case BLOCK:
        say(t, "+%u pointer to a block of %llu", at, (unsigned long long)x->list[w.block].size);
        return;
    case OWN:
        say(t, "+%u pointer to itself", at);
        return;
    case MEMORY:
        say(t, "+%u pointer into %s", at,
            w.range->kind == TT_HEAP_STACK ? "a stack" : "other memory");
        return;
    case SMALL:
    case OTHER:
        return;
    }
}

void tt_heap_shape_text(const struct tt_heap_shaper *shaper, uint32_t block, tt_heap_name_fn *name,
                        void *name_arg, char *out, size_t size)
{
    struct text t = {
        .shaper = shaper, .name = name, .name_arg = name_arg, .out = out, .size = size};
    uint64_t buffer[SHOWN], words = SHOWN;
    t.bytes = (const uint8_t *)peek(shaper->index, block, 0, buffer, &words);
    t.n_bytes = words * 8;
    out[0] = 0;
    say(&t, "%llu bytes", (unsigned long long)shaper->index->list[block].size);
    each_word(shaper, block, shaper->index->list[block].size, say_word, &t);
    if (!t.said)
        say(&t, "no pointers, no text");
}
