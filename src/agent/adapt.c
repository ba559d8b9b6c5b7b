/* SPDX-License-Identifier: Apache-2.0 */
/* The rates of adaptive mode (METHODS.md 2.1): each key is to give about `rate` samples a second.
 * Its first births are all taken; thin rises at once when a second sees four times the rate, and
 * falls as the key slows. A birth's probability 2^-thin depends only on the past, so weighting by
 * its inverse stays unbiased; gaps are geometric, so drawing one anew, when a key changes its
 * place or a gap has grown old, changes nothing. Counts race between threads on purpose: they only
 * steer. Start: tt_adapt_decide. */
#include "agent/adapt.h"
#include "agent/draw.h"

#define RATES 16384u
#define PROBES 8u
#define ALWAYS 32u /* first births of a key, taken without thinning */
#define THIN_MAX 20u

struct rate {
    uint64_t key;
    uint32_t taken;  /* in all, up to ALWAYS */
    uint32_t window; /* taken since `since` */
    uint32_t since;  /* tick */
    uint32_t thin;
};
struct tt_adapt {
    struct rate rate[RATES];
};

int tt_adapt_make(void)
{
    if (tt_agent.adapt) { /* of an earlier recording */
        tt_sys_clear(tt_agent.adapt, sizeof *tt_agent.adapt);
        return 0;
    }
    struct tt_adapt *a = tt_sys_mmap(NULL, sizeof *a, TT_PROT_RW,
                                     TT_MAP_PRIVATE | TT_MAP_ANONYMOUS | TT_MAP_NORESERVE, -1);
    if (tt_sys_bad(a))
        return (int)(long)a;
    tt_agent.adapt = a;
    return 0;
}

static struct rate *find(uint64_t key)
{
    struct rate *home = &tt_agent.adapt->rate[0];
    uint64_t at = key >> 40;
    for (unsigned i = 0; i < PROBES; i++) {
        struct rate *r = home + (at + i) % RATES;
        uint64_t seen = __atomic_load_n(&r->key, __ATOMIC_RELAXED);
        if (seen == key)
            return r;
        if (seen == 0 && __atomic_compare_exchange_n(&r->key, &seen, key, 0, __ATOMIC_RELAXED,
                                                     __ATOMIC_RELAXED)) {
            r->since = tt_agent_tick();
            return r;
        }
    }
    return home + at % RATES; /* full: shares the rate of another key */
}

/* Lets thin fall when less than half the rate was taken since the window began; starts a new
 * window once it is a second old. */
static void settle(struct rate *r, uint32_t now)
{
    uint32_t age = now - r->since;
    if (age < TT_TAPE_TICKS_PER_SECOND)
        return;
    uint64_t due = (uint64_t)tt_agent.conf.rate * age / TT_TAPE_TICKS_PER_SECOND;
    uint64_t window = r->window;
    if (window > 2 * due && r->thin < THIN_MAX)
        r->thin++;
    for (; r->thin > 0 && (window + 1) * 2 <= due; due /= 2)
        r->thin--;
    r->window = 0;
    r->since = now;
}

static void taken(struct rate *r)
{
    r->window++;
    if (r->taken < ALWAYS)
        r->taken++;
    else if (r->window >= 4 * tt_agent.conf.rate && r->thin < THIN_MAX) {
        r->thin++;
        r->window /= 2; /* what the window would have seen with the new thin */
    }
}

static uint64_t process_key(const struct tt_thread *t, const uint64_t *slot, uint64_t size)
{
    uint64_t class = 63u - (uint32_t)__builtin_clzl(size | 1), at = (uint64_t)slot, depth = 0;
    for (unsigned i = 0; i < TT_RANGES; i++)
        if (at >= t->range[i].lo && at < t->range[i].hi)
            depth = t->range[i].hi - at;
    uint64_t key = (*slot + (depth << 19) + (class << 57)) * 0xd6e8feb86659fd93ULL;
    return (key ^ key >> 32) | 1;
}

static uint32_t thin_now(const struct rate *r)
{
    uint32_t thin = r->thin, floor = __atomic_load_n(&tt_agent.thin_floor, __ATOMIC_RELAXED);
    thin = thin > floor ? thin : floor;
    return thin < THIN_MAX ? thin : THIN_MAX;
}

int32_t tt_adapt_decide(struct tt_thread *t, const uint64_t *slot, uint64_t size)
{
    uint64_t key = tt_adapt_key(slot, size);
    if (tt_adapt_passes(t, key))
        return -1;
    struct tt_key *k = &t->key[key >> 56];
    struct rate *r = find(process_key(t, slot, size));
    settle(r, tt_agent_tick());
    uint64_t skip = 0;
    uint32_t thin = k->thin;
    if (k->key != key || k->epoch != tt_adapt_epoch()) {
        thin = thin_now(r);
        skip = tt_draw_births(tt_thread_random(t), thin);
    }
    int32_t result = -1;
    if (skip == 0) {
        result = (int32_t)thin;
        taken(r);
        thin = thin_now(r);
        skip = tt_draw_births(tt_thread_random(t), thin) + 1;
    }
    skip--; /* a passed birth was this one */
    k->key = key;
    k->skip = skip < 0xffffffffu ? (uint32_t)skip : 0xffffffffu;
    k->thin = (uint16_t)thin;
    k->epoch = tt_adapt_epoch();
    return result;
}
