/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks other than the wall's: cumulative counts over the dossiers' grid of epochs. Retained
 * births are judged against what the process did, not against time alone (METHODS 2.3 iv):
 * operations that people declared, functions counted on the site's own stack, the time in which the
 * process was active, and the allocations of the rest of the process. Start: tt_clock_at. */
#ifndef TT_JUDGE_CLOCK_H
#define TT_JUDGE_CLOCK_H

#include "judge/dossier.h"

struct tt_clock {
    const struct tt_dossiers *all;
    double *value; /* per grid point; owned */
    double since;  /* counted from this time on */
};

/* Zeroes *clock and gives it a value per grid point. 0 or -ENOMEM. */
int tt_clock_open(const struct tt_dossiers *all, struct tt_clock *clock);
void tt_clock_close(struct tt_clock *clock);

/* Value at time t, linear between grid points. */
double tt_clock_at(const struct tt_clock *clock, double t);

/* Adds the counts of a session operation, or (rest = false) the births of a dossier. */
void tt_clock_add_operation(struct tt_clock *clock, const struct tt_case_operation *op);
void tt_clock_add_births(struct tt_clock *clock, const struct tt_dossier *d);

/* Seconds in which the dossier's processes were active: intervals where the rest of the process
 * makes at least a tenth of the units, or uses at least three tenths of the processor time, that
 * are usual while this site gives birth. Where neither is known every interval counts. */
void tt_clock_active(struct tt_clock *clock, const struct tt_dossier *d);

/* Units made by the rest of the session's processes. */
void tt_clock_traffic(struct tt_clock *clock, const struct tt_dossier *d);

/* Whether the operation is a function on the dossier's stack: the frame's number from the
 * innermost, or -1. By name, or where there are no names by the nearest entry below the return
 * address. */
long tt_clock_frame(const struct tt_dossiers *all, const struct tt_dossier *d,
                    const struct tt_case_operation *op);

/* Whether a dossier has a member in that process. */
bool tt_dossier_in(const struct tt_dossiers *all, const struct tt_dossier *d, size_t process);

#endif
