/* SPDX-License-Identifier: Apache-2.0 */
/* "One per call, held in N of N intervals": the search for an exact small ratio between lost units
 * and counted operations of one session. Declared in law.h. Start: tt_stats_law_ratio. */
#include <errno.h>
#include <math.h>

#include "stats/law.h"

struct series {
    const double *ops, *lost;
    size_t m;
};

/* Fills the part of `out` that depends on the ratio c = num/den. */
static void try_ratio(const struct series *s, unsigned num, unsigned den, double slack,
                      struct tt_stats_ratio *out)
{
    const double rounding = 1e-6;
    double c = (double)num / den, bound = slack * c + (den > 1 ? 1 : 0);
    double lowest = s->lost[0] - c * s->ops[0], highest = lowest;
    out->numerator = num;
    out->denominator = den;
    out->held = out->strict = 0;
    for (size_t i = 1; i <= s->m; i++) {
        double ops = s->ops[i] - s->ops[i - 1], lost = s->lost[i] - s->lost[i - 1];
        double off = fabs(lost - c * ops), at = s->lost[i] - c * s->ops[i];
        lowest = fmin(lowest, at);
        highest = fmax(highest, at);
        if (ops <= 0 && lost <= 0)
            continue;
        out->held += off <= bound + rounding;
        out->strict += off <= rounding;
    }
    double fraction = c - floor(c), variance = den > 1 ? fraction * (1 - fraction) : c;
    double total = s->ops[s->m] - s->ops[0];
    out->max_residual = (highest - lowest) / 2;
    out->exact = num > 0 && out->held == out->intervals && out->max_residual <= bound + rounding &&
                 total * variance >= 25 * bound * bound;
}

/* Pearson chi2/df of losses against a constant ratio, variance `spread` per expected loss (1
 * Poisson, 1 - ratio binomial); intervals are pooled until 5 are expected. *cells of them. */
static double dispersion(const struct series *s, double ratio, double spread, int *cells)
{
    double chi2 = 0, due = 0, seen = 0;
    *cells = 0;
    for (size_t i = 1; i <= s->m; i++) {
        due += ratio * (s->ops[i] - s->ops[i - 1]);
        seen += s->lost[i] - s->lost[i - 1];
        if (due >= 5) {
            chi2 += (seen - due) * (seen - due) / (due * spread);
            ++*cells;
            due = seen = 0;
        }
    }
    return *cells > 1 ? fmax(1, chi2 / (*cells - 1)) : 1;
}

int tt_stats_law_ratio(const double *ops, const double *lost, size_t m, double slack_ops,
                       double level, struct tt_stats_ratio *out)
{
    struct series s = {ops, lost, m};
    *out = (struct tt_stats_ratio){.denominator = 1, .clopper = true, .dispersion = 1};
    if (m < 1 || !(ops[m] > ops[0]))
        return -EINVAL;
    for (size_t i = 1; i <= m; i++) {
        double dops = ops[i] - ops[i - 1], dlost = lost[i] - lost[i - 1];
        if (dops < 0 || dlost < 0)
            return -EINVAL;
        out->intervals += dops > 0 || dlost > 0;
        out->clopper = out->clopper && dlost <= dops;
    }

    double n = ops[m] - ops[0], k = lost[m] - lost[0];
    out->ratio = k / n;
    /* "At most one per operation" is itself a guess from totals, so the binomial interval, narrower
     * than the Poisson one, needs enough intervals to show (as dispersion) when the guess is wrong.
     */
    int cells;
    double binomial = out->ratio < 1 ? dispersion(&s, out->ratio, 1 - out->ratio, &cells) : 1;
    double poisson = dispersion(&s, out->ratio, 1, &cells);
    out->clopper = out->clopper && (cells >= 10 || out->ratio >= 1);
    out->dispersion = out->clopper ? binomial : poisson;
    if (out->clopper) {
        out->interval = tt_stats_clopper_pearson(k / out->dispersion, n / out->dispersion, level);
    } else {
        out->interval = tt_stats_garwood(k / out->dispersion, level);
        out->interval.lo *= out->dispersion / n;
        out->interval.hi *= out->dispersion / n;
    }

    struct tt_stats_ratio nearest = *out;
    double error = INFINITY;
    for (unsigned den = 1; den <= 12; den++) {
        unsigned num = (unsigned)lround(fmin(out->ratio * den, 1e6));
        if (num == 0 && den > 1)
            continue;
        struct tt_stats_ratio tried = *out;
        try_ratio(&s, num, den, slack_ops, &tried);
        if (tried.exact) {
            *out = tried;
            return 0;
        }
        double off = fabs((double)num / den - out->ratio);
        if (off < error * 0.999) {
            error = off;
            nearest = tried;
        }
    }
    *out = nearest;
    return 0;
}
