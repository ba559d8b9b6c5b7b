/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated cases for the judge: births and deaths are generated event by event from a stated truth
 * and then written down the way a recorder would - cumulative rows at epochs, half-octave death
 * bins, survivors by tick, sampled release ages. Seeded, so that a failure can be repeated. Start:
 * sim_open, then sim_site, sim_unit ..., sim_end. */
#ifndef TT_TESTS_JUDGE_SIM_H
#define TT_TESTS_JUDGE_SIM_H

#include "judge/case.h"
#include "judge/dossier.h"
#include "judge/judge.h"
#include "stats/rng.h"

#define SIM_NEVER 1e18

struct sim_life {
    double birth, death;
    uint32_t size;
    double lost; /* from then on nothing points to it; SIM_NEVER: never */
};

/* What goes wrong in a search of a frozen copy. */
struct sim_scan {
    double missed;      /* share of lost units that a stale word still points to */
    double false_share; /* share of reachable units called unreachable */
    double young;       /* units younger than this are in flight, */
    double in_flight;   /* of which this share is called unreachable */
    double astray;      /* share of old lost units given to the next site */
};

struct sim {
    struct tt_case c;
    struct tt_stats_rng rng;
    double seconds; /* of recording */
    double exit_at; /* the process ends then; SIM_NEVER: it was alive at the end */
    uint64_t next_pc;
    TT_VEC(struct sim_life) lives; /* of the site being made */
    TT_VEC(double) ops;            /* operation times, ascending */
    struct sim_scan scan;
    double strays; /* old lost units that the next site gets by mistake */
};

/* One process, epochs every `epoch` seconds. */
void sim_open(struct sim *sim, uint64_t seed, double seconds, double epoch);
void sim_close(struct sim *sim);

/* Operation times: Poisson with rate(t), which is at most `peak`. */
void sim_load(struct sim *sim, double peak, double (*rate)(const struct sim *sim, double t));
double sim_flat(const struct sim *sim, double t);

/* Writes sim->ops as an operation; function of the frame 0x400000 + 16 * id. */
void sim_operation(struct sim *sim, const char *name, bool declared, uint64_t address);

/* Adds a frozen copy at time t; call it before the sites are made. Sites made later fill it with
 * their lost units as sim->scan says; units born before 0 are old ones. */
void sim_copy(struct sim *sim, double t);

void sim_unit(struct sim *sim, double birth, double death, uint32_t size);
/* A unit that nothing points to from `lost` on; it is never released. */
void sim_lose(struct sim *sim, double birth, double lost, uint32_t size);
/* Writes the lives as a site on a stack of its own: `n` frames, given or (NULL) fresh. */
void sim_site(struct sim *sim, const uint64_t *pcs, size_t n);
/* Process rows: descriptors by a function of time, processor time 10 ms per operation. */
void sim_process(struct sim *sim, double (*fds)(const struct sim *sim, double t));

/* Judges sim alone; horizon in seconds. The caller frees *out. */
void sim_judge(const struct sim *sim, double horizon, struct tt_findings *out);
/* The finding of the n-th site made. */
const struct tt_finding *sim_finding(const struct sim *sim, const struct tt_findings *out,
                                     size_t site);
/* "f400010" and so on for the pcs that sim_site made: a tt_judge_name_fn. */
const char *sim_name(void *arg, size_t session, int64_t process, uint64_t pc);

#endif
