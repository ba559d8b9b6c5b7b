/* SPDX-License-Identifier: Apache-2.0 */
/* Sequential comparison of a fixed build with the leaking one: two e-processes on the losses seen
 * in B against those that A's law predicts. Start: tt_stats_fix_check. */
#include <math.h>

#include "stats/fixcheck.h"

double tt_stats_fix_log_e_fixed(double k, double mu, double delta)
{
    static const double bet[] = {0, 0.1, 0.3, 0.6};
    enum { BETS = sizeof bet / sizeof *bet };
    double log_e[BETS];
    for (int j = 0; j < BETS; j++) {
        double power = k > 0 ? k * log(bet[j]) : 0;
        log_e[j] = power + (1 - bet[j]) * delta * mu;
    }
    return tt_stats_log_sum_exp(log_e, BETS) - log(BETS);
}

double tt_stats_fix_log_e_still(double k, double mu, double delta)
{
    double log_e[2];
    for (int j = 0; j < 2; j++) {
        double residual = j ? 1 : 0.5;
        log_e[j] = k * log(residual / delta) - (residual - delta) * mu;
    }
    return tt_stats_log_sum_exp(log_e, 2) - M_LN2;
}

/* Smallest exposure >= mu at which "fixed" is shown if nothing is lost beyond k. */
static double exposure_for(double k, double mu, double delta, double alpha)
{
    double goal = -log(alpha), lo = mu, hi = fmax(mu, 1);
    if (tt_stats_fix_log_e_fixed(k, lo, delta) >= goal)
        return lo;
    while (tt_stats_fix_log_e_fixed(k, hi, delta) < goal)
        hi *= 2;
    for (int i = 0; i < 200 && hi - lo > 1e-12 * hi; i++) {
        double mid = lo + (hi - lo) / 2;
        if (tt_stats_fix_log_e_fixed(k, mid, delta) >= goal)
            hi = mid;
        else
            lo = mid;
    }
    return hi;
}

double tt_stats_fix_needed(double delta, double alpha)
{
    return exposure_for(0, 0, delta, alpha);
}

double tt_stats_fix_exposure(double k_a, double ops_a, double ops_b)
{
    double losses = k_a >= 30 ? k_a : tt_stats_garwood(k_a, 0.9).lo; /* one-sided 95 % */
    return losses / ops_a * ops_b;
}

void tt_stats_fix_check(double k_a, double mu_a, double k_b, double mu_b, double delta,
                        double alpha, struct tt_stats_fix *out)
{
    struct tt_stats_interval losses = tt_stats_garwood(k_b, 0.95);
    double goal = -log(alpha);
    *out = (struct tt_stats_fix){
        .log_e_fixed = tt_stats_fix_log_e_fixed(k_b, mu_b, delta),
        .log_e_still = tt_stats_fix_log_e_still(k_b, mu_b, delta),
        .residual = k_b / mu_b,
        .residual_interval = {losses.lo / mu_b, losses.hi / mu_b},
        .zero_event_bound = k_b > 0 ? NAN : goal / mu_b,
    };
    out->needed = exposure_for(k_b, mu_b, delta, alpha) - mu_b;
    /* P(at most k_b of the k_a + k_b losses fall on B's share of the exposure) */
    if (k_a + k_b > 0 && mu_a + mu_b > 0)
        out->log_p_improved = tt_stats_log_beta_q(k_b + 1, k_a, mu_b / (mu_a + mu_b));
    if (k_a <= 0)
        out->log_p_improved = 0;
    if (out->log_e_fixed >= goal)
        out->class = TT_STATS_FIX_FIXED;
    else if (out->log_e_still >= goal)
        out->class = TT_STATS_FIX_STILL;
    if (out->class != TT_STATS_FIX_FIXED && out->log_p_improved <= log(alpha))
        out->class = TT_STATS_FIX_IMPROVED;
}
