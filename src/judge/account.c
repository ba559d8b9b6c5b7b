/* SPDX-License-Identifier: Apache-2.0 */
/* The frame of all findings: does the process's memory grow because its program keeps more, or
 * because the allocator holds more than the program has (METHODS 2.3 vi)? Resident memory alone
 * never says "leak". Start: tt_judge_account. */
#include <math.h>
#include <stdio.h>

#include "base/text.h"
#include "judge/dossier.h"
#include "stats/account.h"

#define SETTLE 0.25  /* the first quarter of the recording is start-up */
#define MATTERS 0.02 /* growth over the window below this share of what is held is level */

static const struct tt_case_process *largest(const struct tt_case *c)
{
    const struct tt_case_process *best = NULL;
    double most = -1;
    for (size_t i = 0; i < c->processes.len; i++) {
        const struct tt_case_process *p = &c->processes.data[i];
        double rss = p->rows.len ? p->rows.data[p->rows.len - 1].rss_anon : -1;
        if (rss > most) {
            most = rss;
            best = p;
        }
    }
    return best;
}

int tt_judge_account(const struct tt_dossiers *all, struct tt_findings *out)
{
    out->process_heap.verdict = TT_VERDICT_UNDETERMINED;
    if (!all->c->epochs.len)
        return 0; /* one look at the heap and no recording */
    const struct tt_case_process *p = largest(all->c);
    size_t n = p ? p->rows.len : 0, from = (size_t)(SETTLE * (double)n), m = 0;
    double *series = calloc(3 * n + 1, sizeof *series);
    if (!series)
        return -ENOMEM;
    double *clock = series, *live = series + n, *held = series + 2 * n;
    for (size_t i = from; i < n; i++) {
        const struct tt_case_proc_row *r = &p->rows.data[i];
        if (r->heap_live < 0 || r->heap_held < 0)
            continue;
        clock[m] = r->t;
        live[m] = r->heap_live;
        held[m++] = r->heap_held;
    }
    struct tt_stats_account account;
    double window = m > 1 ? clock[m - 1] - clock[0] : 0;
    if (window <= 0 || !all->c->exact ||
        tt_stats_account(clock, live, held, m, MATTERS * fmax(held[m - 1], 1) / window, &account)) {
        snprintf(out->process_heap.text, sizeof out->process_heap.text,
                 "memory accounting needs a longer recording in exact mode");
        free(series);
        return 0;
    }
    out->process_heap.seconds = window;
    out->process_heap.rss_slope = account.held_slope;
    out->process_heap.live_slope = account.live_slope;
    char grown[32], kept[32], span[32];
    tt_text_size(grown, fabs(account.held_slope) * window);
    tt_text_size(kept, fabs(account.live_slope) * window);
    tt_text_duration(span, window);
    switch (account.class) {
    case TT_STATS_ACCOUNT_FRAGMENTATION:
        out->process_heap.verdict = TT_VERDICT_FRAGMENTATION;
        snprintf(out->process_heap.text, sizeof out->process_heap.text,
                 "in the last %s the allocator's memory grew by %s while the program's own stayed "
                 "level: fragmentation, not a leak",
                 span, grown);
        break;
    case TT_STATS_ACCOUNT_GROWTH:
        out->process_heap.verdict = TT_VERDICT_STEADY;
        snprintf(out->process_heap.text, sizeof out->process_heap.text,
                 "in the last %s the program's own memory grew by %s, what the allocator holds by "
                 "%s",
                 span, kept, grown);
        break;
    case TT_STATS_ACCOUNT_LEVEL:
        out->process_heap.verdict = TT_VERDICT_STEADY;
        snprintf(out->process_heap.text, sizeof out->process_heap.text,
                 "in the last %s neither the program's memory nor the allocator's grew", span);
        break;
    case TT_STATS_ACCOUNT_UNDETERMINED:
        snprintf(out->process_heap.text, sizeof out->process_heap.text,
                 "the allocator's memory over %s moved too little or too much to tell", span);
        break;
    }
    free(series);
    return 0;
}
