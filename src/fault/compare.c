/* SPDX-License-Identifier: Apache-2.0 */
/* What a run with a fault holds at its end that runs without one do not. A difference at the same
 * acquiring stack, of counts: so what a program never gives back, faults or not, is no loss.
 *   heap blocks and mappings, searched: only those that nothing points to. A program that keeps all
 * until its end, or that ends in the middle by exit(3), its stack full of pointers, loses nothing.
 *   other resources, and all of them without a search: those open at the end. When the program
 *     gave up, what it was about to release is among them, and they are only "left".
 *   main returned: its variables are gone, and what they pointed to would look lost; the library
 *     keeps what main held last, and the search takes it for roots. Where that could not be, and
 *     the program gave up, blocks are "left", too.
 *   After a fault the program may acquire at other stacks what it acquires anyway. Such a unit is
 *     none too many while others of its kind are missing elsewhere.
 *   Forked children: each process is compared with what any process holds there usually. So it is
 *     of no consequence which of several workers did the work, or that one was started anew.
 * Start: tt_fault_compare. */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#include "fault/fault.h"

static uint64_t key_of(const struct tt_fault_held *h)
{
    return (uint64_t)h->site << 8 | h->kind;
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t beyond(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static int add_called(struct tt_fault_usual *usual, const struct tt_fault_round *round, bool first)
{
    struct tt_map by_site = {0};
    int code = 0;
    for (size_t i = 0; !code && i < round->called.len; i++)
        code = tt_map_put(&by_site, round->called.data[i].site, i);
    if (!code && first)
        for (size_t i = 0; !code && i < round->called.len; i++)
            code = tt_vec_push(&usual->called, round->called.data[i]);
    for (size_t i = 0; !code && i < usual->called.len; i++) {
        struct tt_fault_called *c = &usual->called.data[i];
        const uint64_t *at = tt_map_get(&by_site, c->site);
        uint32_t calls = at ? round->called.data[*at].calls : 0;
        c->calls = calls < c->calls ? calls : c->calls;
    }
    tt_map_free(&by_site);
    return code;
}

int tt_fault_usual_add(struct tt_fault_usual *usual, const struct tt_fault_round *round, bool first)
{
    for (size_t i = 0; i < round->held.len; i++) {
        const struct tt_fault_held *h = &round->held.data[i];
        const uint64_t *at = tt_map_get(&usual->by_key, key_of(h));
        if (!at) {
            if (tt_map_put(&usual->by_key, key_of(h), usual->held.len) ||
                tt_vec_push(&usual->held, *h))
                return -ENOMEM;
            continue;
        }
        struct tt_fault_held *u = &usual->held.data[*at];
        u->units = most(u->units, h->units);
        u->bytes = most(u->bytes, h->bytes);
        u->lost_units = most(u->lost_units, h->lost_units);
        u->lost_bytes = most(u->lost_bytes, h->lost_bytes);
    }
    usual->status = round->status;
    usual->child_signal = usual->child_signal ? usual->child_signal : round->child_signal;
    usual->alone = round->alone;
    usual->searched = round->searched && (first || usual->searched);
    return add_called(usual, round, first);
}

void tt_fault_usual_free(struct tt_fault_usual *usual)
{
    tt_vec_free(&usual->held);
    tt_vec_free(&usual->called);
    tt_map_free(&usual->by_key);
}

/* Whether the program did at least a quarter of the calls that it does without the fault from there
 * on, at the same stacks; the failing one, which may be tried again, apart. What a program does to
 * say that it gives up is less. */
static bool did_more(const struct tt_fault_usual *usual, const struct tt_fault_round *round,
                     uint32_t site)
{
    struct tt_map rows = {0};
    uint64_t usually = 0, did = 0;
    for (size_t i = 0; i < round->called.len; i++)
        if (tt_map_put(&rows, round->called.data[i].site, i))
            break;
    for (size_t i = 0; i < usual->called.len; i++) {
        const struct tt_fault_called *u = &usual->called.data[i];
        const uint64_t *at = tt_map_get(&rows, u->site);
        const struct tt_fault_called none = {0}, *c = at ? &round->called.data[*at] : &none;
        if (u->site == site || !u->calls)
            continue;
        usually += beyond(u->calls, c->calls - c->after);
        did += c->after;
    }
    tt_map_free(&rows);
    return did && did >= usually / 4;
}

enum tt_fault_outcome tt_fault_outcome(const struct tt_fault_usual *usual,
                                       const struct tt_fault_round *round, uint32_t site)
{
    if (!round->fired)
        return TT_FAULT_UNREACHED;
    if (round->hung)
        return TT_FAULT_HUNG;
    if (round->child_signal && !usual->child_signal)
        return TT_FAULT_DIED;
    if (!round->ended)
        return WIFSIGNALED(round->status) ? TT_FAULT_DIED : TT_FAULT_GAVE_UP;
    if (round->alone != usual->alone)
        return TT_FAULT_GAVE_UP;
    return round->status == usual->status || did_more(usual, round, site) ? TT_FAULT_WENT_ON
                                                                          : TT_FAULT_GAVE_UP;
}

/* What several processes lose of one stack is one loss; those of this trial begin at first. */
static int put(tt_fault_losses *losses, size_t first, const struct tt_fault_held *h, size_t trial,
               enum tt_fault_weight weight, uint64_t units, uint64_t bytes)
{
    for (size_t i = first; h->process && i < losses->len; i++) {
        struct tt_fault_loss *l = &losses->data[i];
        if (l->site == h->site && l->kind == h->kind && l->weight == weight) {
            l->units += units;
            l->bytes += bytes;
            return 0;
        }
    }
    return units ? tt_vec_push(losses, (struct tt_fault_loss){trial, h->site, h->kind, weight,
                                                              units, bytes})
                 : 0;
}

static bool can_search(uint32_t kind)
{
    return kind == TT_FAULT_HEAP || kind == TT_FAULT_MAPPING;
}

/* Units and bytes that may be lost: without a search of both sides, all that are held. */
static uint64_t units_of(const struct tt_fault_held *h, bool searched)
{
    return can_search(h->kind) && !searched ? h->units : h->lost_units;
}

static uint64_t bytes_of(const struct tt_fault_held *h, bool searched)
{
    return can_search(h->kind) && !searched ? h->bytes : h->lost_bytes;
}

/* How many units of each kind the usual runs have, in the process started and in children, at
 * stacks where no process of this one has as many. What comes after a fault may come at other
 * stacks than usual: such a unit stands for one of these. */
static int shifted(const struct tt_fault_usual *usual, const struct tt_fault_round *round,
                   bool searched, uint64_t pool[2][TT_FAULT_KINDS])
{
    struct tt_map rows = {0};
    int code = 0;
    for (size_t i = 0; !code && i < round->held.len; i++) {
        const struct tt_fault_held *h = &round->held.data[i];
        uint64_t *units = tt_map_get(&rows, key_of(h));
        if (units)
            *units = most(*units, units_of(h, searched));
        else
            code = tt_map_put(&rows, key_of(h), units_of(h, searched));
    }
    for (size_t i = 0; !code && i < usual->held.len; i++) {
        const struct tt_fault_held *u = &usual->held.data[i];
        const uint64_t *units = tt_map_get(&rows, key_of(u));
        pool[u->process != 0][u->kind] += beyond(units_of(u, searched), units ? *units : 0);
    }
    tt_map_free(&rows);
    return code;
}

int tt_fault_compare(const struct tt_fault_usual *usual, const struct tt_fault_round *round,
                     enum tt_fault_outcome outcome, size_t trial, tt_fault_losses *losses)
{
    static const struct tt_fault_held none = {0};
    bool gave_up = outcome == TT_FAULT_GAVE_UP;
    bool searched = round->searched && usual->searched;
    uint64_t missing[2][TT_FAULT_KINDS] = {0}, pool[TT_FAULT_KINDS];
    size_t first = losses->len;
    bool child_died = outcome == TT_FAULT_DIED && round->child_signal; /* the others are compared */
    if (!round->ended || (outcome != TT_FAULT_WENT_ON && !gave_up && !child_died))
        return 0;
    int code = shifted(usual, round, searched, missing);
    for (size_t i = 0; !code && i < round->held.len; i++) {
        const struct tt_fault_held *h = &round->held.data[i];
        const uint64_t *at = tt_map_get(&usual->by_key, key_of(h));
        if (!i || h->process != h[-1].process) /* each may stand for what is missing */
            memcpy(pool, missing[h->process != 0], sizeof pool);
        const struct tt_fault_held *u = at ? &usual->held.data[*at] : &none;
        uint64_t more = beyond(h->units, u->units);
        uint64_t lost = beyond(units_of(h, searched), units_of(u, searched));
        uint64_t bytes = beyond(bytes_of(h, searched), bytes_of(u, searched));
        uint64_t late = lost < h->late ? lost : h->late;
        late = late < pool[h->kind] ? late : pool[h->kind];
        pool[h->kind] -= late;
        bytes =
            late && lost ? bytes / lost * (lost - late) : bytes; /* which they are is not known */
        lost -= late;
        bool known = can_search(h->kind) && searched && !(round->end_main && !round->main_saved);
        bool left = (gave_up || h->gave_up) && !known;
        code = put(losses, first, h, trial, left ? TT_FAULT_LEFT : TT_FAULT_LOST, lost, bytes);
        if (!code)
            code = put(losses, first, h, trial, TT_FAULT_KEPT, beyond(more, lost),
                       beyond(beyond(h->bytes, u->bytes), bytes));
    }
    return code;
}

void tt_fault_confirm(tt_fault_losses *losses, size_t first, const tt_fault_losses *again)
{
    size_t kept = first;
    for (size_t i = first; i < losses->len; i++) {
        struct tt_fault_loss l = losses->data[i];
        for (size_t k = 0; k < again->len; k++) {
            const struct tt_fault_loss *a = &again->data[k];
            if (a->site != l.site || a->kind != l.kind || a->weight != l.weight)
                continue;
            if (a->units < l.units) {
                l.units = a->units;
                l.bytes = a->bytes;
            }
            losses->data[kept++] = l;
            break;
        }
    }
    losses->len = kept;
}
