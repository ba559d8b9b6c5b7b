/* SPDX-License-Identifier: Apache-2.0 */
/* From a record to a site of the image's tape. A raw stack is unwound, and the words that led
 * through it are handed to the kernel side, which from then on tells the site by itself, by a
 * number of all images together. Start: tt_kernel_site. */
#include <string.h>

#include "kernel/internal.h"

/* ---- kinds ---- */

static const struct {
    enum tt_tape_kind kind;
    enum tt_tape_space space;
} kinds[TT_KERNEL_KINDS] = {
    [TT_KERNEL_FD] = {TT_KIND_FD, TT_SPACE_FD},
    [TT_KERNEL_SOCKET] = {TT_KIND_SOCKET, TT_SPACE_FD},
    [TT_KERNEL_MQ] = {TT_KIND_IPC, TT_SPACE_FD},
    [TT_KERNEL_THREAD] = {TT_KIND_THREAD, TT_SPACE_THREAD},
    [TT_KERNEL_MAPPING] = {TT_KIND_MAPPING, TT_SPACE_MAPPING},
    [TT_KERNEL_CHILD] = {TT_KIND_CHILD, TT_SPACE_CHILD},
    [TT_KERNEL_TIMER] = {TT_KIND_TIMER, TT_SPACE_TIMER},
    [TT_KERNEL_SHM] = {TT_KIND_IPC, TT_SPACE_SHM},
    [TT_KERNEL_SEM] = {TT_KIND_IPC, TT_SPACE_SEM},
    [TT_KERNEL_MSG] = {TT_KIND_IPC, TT_SPACE_MSG},
    [TT_KERNEL_PORT] = {TT_KIND_PORT, TT_SPACE_PORT},
    [TT_KERNEL_JOINED] = {TT_KIND_THREAD, TT_SPACE_THREAD},
    [TT_KERNEL_LIBRARY] = {TT_KIND_LIBRARY, TT_SPACE_LIBRARY},
    [TT_KERNEL_STREAM] = {TT_KIND_STREAM, TT_SPACE_STREAM},
    [TT_KERNEL_DIRECTORY] = {TT_KIND_DIRECTORY, TT_SPACE_DIRECTORY},
    [TT_KERNEL_NAMED] = {TT_KIND_IPC, TT_SPACE_NAMED_SEMAPHORE},
};

bool tt_kernel_kind_known(uint32_t kind)
{
    return kind < TT_KERNEL_KINDS || (kind >= TT_KERNEL_DECLARED && kind < TT_KERNEL_DECLARED_END);
}
enum tt_tape_kind tt_kernel_kind(uint32_t kind)
{
    return kind < TT_KERNEL_KINDS
               ? kinds[kind].kind
               : (enum tt_tape_kind)(TT_KIND_DECLARED + kind - TT_KERNEL_DECLARED);
}
uint32_t tt_kernel_space(uint32_t kind)
{
    return kind < TT_KERNEL_KINDS ? kinds[kind].space
                                  : TT_SPACE_DECLARED + kind - TT_KERNEL_DECLARED;
}

/* ---- numbers of sites ---- */

uint32_t tt_kernel_number(struct tt_kernel *kernel, struct tt_kernel_image *image, uint32_t site,
                          enum tt_kernel_kind kind)
{
    const uint64_t *known = tt_map_get(&image->link_at, site);
    if (known)
        return image->links.data[*known].global;
    uint32_t number = kernel->free_sites.len ? kernel->free_sites.data[--kernel->free_sites.len]
                      : kernel->next_site < TT_KERNEL_SITES ? kernel->next_site++
                                                            : 0;
    if (!number || !site)
        return 0;
    struct tt_kernel_link link = {.global = number, .site = site};
    if (tt_map_put(&image->link_at, site, image->links.len) || tt_vec_push(&image->links, link))
        return 0;
    memset(&kernel->shared->count[number], 0, sizeof *kernel->shared->count);
    kernel->shared->count[number].kind = kind;
    kernel->local[number] = site;
    return number;
}

/* ---- stacks ---- */

static bool leads_through(const struct tt_kernel_known *k, uint64_t start, uint64_t end)
{
    if (k->ip >= start && k->ip < end)
        return true;
    for (uint32_t i = 0; i < k->n; i++)
        if (!(k->at[i] & 1) && k->word[i] >= start && k->word[i] < end)
            return true;
    return false;
}

void tt_kernel_forget_known(struct tt_kernel *kernel, uint32_t slot, uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < TT_KERNEL_CACHE; i++) {
        struct tt_kernel_known *k = &kernel->shared->known[i];
        if (k->ip && k->key >> 8 == slot && leads_through(k, start, end)) {
            __atomic_store_n(&k->seq, k->seq + 1, __ATOMIC_RELEASE);
            k->ip = 0;
            __atomic_store_n(&k->seq, k->seq + 1, __ATOMIC_RELEASE);
        }
    }
}

/* Hands a stack to the kernel side. */
static void teach(struct tt_kernel *kernel, const struct tt_kernel_event *e, uint32_t number,
                  const struct tt_kernel_words *words)
{
    uint64_t key = (uint64_t)e->slot << 8 | e->kind;
    uint32_t place = tt_kernel_place(e->ip, e->sp, key), way, span = 0;
    struct tt_kernel_known *k = NULL;
    if (!number || !words->whole || !words->n)
        return;
    for (way = 0; way < TT_KERNEL_WAYS; way++) {
        struct tt_kernel_known *at = &kernel->shared->known[place + way];
        if (at->ip == e->ip && at->key == key && at->n == words->n &&
            memcmp(at->at, words->at, words->n * sizeof *at->at) == 0 &&
            memcmp(at->word, words->word, words->n * sizeof *at->word) == 0)
            return; /* its second record was under way */
        if (!at->ip && !k)
            k = at;
    }
    if (!k)
        k = &kernel->shared->known[place + kernel->turn++ % TT_KERNEL_WAYS];
    __atomic_store_n(&k->seq, k->seq + 1, __ATOMIC_SEQ_CST);
    k->site = number;
    k->ip = e->ip;
    k->key = key;
    k->bp = e->bp - e->sp;
    k->need_bp = words->need_bp;
    k->n = words->n;
    for (uint32_t i = 0; i < words->n; i++) {
        k->at[i] = words->at[i];
        k->word[i] = words->word[i];
        uint32_t end = (words->at[i] & ~7u) + 8;
        span = end > span ? end : span;
    }
    k->span = span;
    __atomic_store_n(&k->seq, k->seq + 1, __ATOMIC_SEQ_CST);
}

uint32_t tt_kernel_site(struct tt_kernel *kernel, struct tt_kernel_image *image,
                        const struct tt_kernel_event *e, uint32_t *number)
{
    static struct tt_kernel_frames frames;
    static struct tt_kernel_words words;
    if (e->site) {
        *number = e->site;
        return e->site < TT_KERNEL_SITES ? kernel->local[e->site] : 0;
    }
    const struct tt_kernel_raw *raw = (const struct tt_kernel_raw *)e;
    const struct tt_kernel_stopped stopped = {
        .ip = e->ip,
        .sp = e->sp,
        .bp = e->bp,
        .di = e->di,
        .copy = (const uint8_t *)(raw + 1),
        .returns = raw->returns,
        .base = e->sp & ~4095ULL,
        .bytes = (size_t)e->pages * 4096,
    };
    tt_kernel_unwind(image->unwind, &stopped, &frames, &words);
    if (frames.short_copy && e->pages == TT_KERNEL_PAGES)
        kernel->shared->deep = 1;
    if (frames.cut)
        image->tape.head->dropped[TT_DROP_CUT_UNWIND]++;
    bool loads = frames.loads && (image->watches & 1u << TT_SPACE_LIBRARY);
    if ((frames.loader || loads) && e->kind == TT_KERNEL_MAPPING)
        return TT_KERNEL_IGNORE;
    bool skip = frames.wrapper && frames.n > 1 &&
                e->kind < TT_KERNEL_CALLS; /* as the agent's stacks begin with the caller */
    uint32_t site = tt_kernel_tape_site(&image->tape, tt_kernel_kind(e->kind), frames.pc + skip,
                                        frames.n - skip, frames.cut);
    *number = site ? tt_kernel_number(kernel, image, site, (enum tt_kernel_kind)e->kind) : 0;
    teach(kernel, e, *number, &words);
    return site;
}
