/* SPDX-License-Identifier: Apache-2.0 */
/* A dossier: all that a case knows of one finding-to-be. It gathers the session's sites that are
 * one site to people - the same resource and the same call stack, in all thinning classes, in all
 * processes of one build, wherever their modules were mapped - and what each kind of evidence said.
 * Start: tt_dossiers_make, struct tt_dossier. */
#ifndef TT_JUDGE_DOSSIER_H
#define TT_JUDGE_DOSSIER_H

#include "judge/case.h"
#include "judge/finding.h"
#include "judge/judge.h"
#include "stats/delay.h"
#include "stats/law.h"
#include "stats/survival.h"
#include "stats/trend.h"

/* Seconds that a unit must have lived at a frozen copy to be no object in flight. */
#define TT_JUDGE_GRACE_S 2.0

/* One session site in a dossier. */
struct tt_member {
    size_t site;  /* index into tt_case.sites */
    double until; /* counts are taken here: the last look, or the cut before a clean-up at exit */
    bool cleanup; /* the process released much of this site in its last second */
};

/* Live units at `until`, by birth. */
struct tt_unit {
    uint32_t tick, age; /* birth tick; age in ticks when last seen */
    uint32_t size;
    uint64_t count; /* followed */
    double weight;  /* units that one followed unit stands for */
};

struct tt_dossier {
    TT_VEC(struct tt_member) members;
    size_t process; /* of the member with most live units */
    int64_t site, stack;
    const char *resource;
    uint32_t size_min, size_max;
    bool cleanup;   /* any member */
    double cleaned; /* followed units released in the clean-ups */

    double births, deaths, live; /* weighted, at `until` */
    double birth_bytes, live_bytes;
    double followed_births;
    double first, last_birth, until; /* seconds */

    TT_VEC(struct tt_unit) units; /* live, ascending tick */
    uint64_t death_bins[TT_STATS_BINS];
    bool by_series; /* units and death_bins are reconstructed from the series, oldest dying first */

    /* Weighted cumulative totals at tt_dossiers.grid; NULL for sites with hardly any births. */
    double *grid_births, *grid_deaths;
    bool in_traffic; /* its births are part of tt_dossiers.traffic */

    /* evidence, each filled by the file of its name */
    struct tt_stats_retention retention; /* survival.c */
    bool eligible;                       /* births go on: a hypothesis of its own */
    bool rejected;                       /* by e-BH over the eligible ones */
    struct {
        double units, bytes, variance, followed; /* live units of age >= horizon; weighted */
        double first, last;                      /* birth times of the first and last of them */
        size_t slices;                           /* distinct birth slices among them */
    } retained;
    double surviving;            /* life table at its end; NaN unknown */
    struct tt_stats_delay delay; /* delay.c */
    struct {
        enum tt_stats_trend_class class;
        bool goes_on; /* births of kept units keep up with the clock, for all that is known */
        struct tt_stats_trend full, late; /* from the first birth on; without the first tenth */
        const char *clock;                /* "declared", "stack", "time", "traffic" */
        double reach; /* share of the active time at which the last retained birth lies */
    } trend;          /* trend.c */
    bool leak;        /* weigh.c said so */
    struct {
        bool looked;      /* the latest snapshot of a process of this site has details */
        bool complete;    /* of it: no memory was left unread, tagged pointers explain nothing */
        double at;        /* of the latest snapshot */
        size_t snapshots; /* in which units of this site were found unreachable */
        /* Followed units, at the latest snapshot: found unreachable; live; of the unreachable those
         * that were surely no objects in flight. */
        double known, live, sure;
        double units, bytes, variance; /* the unreachable ones weighted; usable bytes */
        double chance; /* bound on the probability that a scan as bad as promised lost them */
        bool returned; /* units that were unreachable were seen to be released: do not believe it */
        bool holds;    /* definite loss since recording began */
        bool explains; /* nearly all units that survive are the unreachable ones */
        double old_units, old_bytes, probability; /* lost before, attributed to this site */
        bool old_holds;
    } lost; /* unreachable.c */
    struct {
        bool known, untouched; /* nearly all of them are untouched */
        double objects, share, lower, seconds;
        uint32_t epochs;
    } stale;                    /* staleness.c */
    struct tt_state_fact state; /* state.c */
    double exhausted; /* limit.c: since then its limit is used up, and no more can be acquired;
                         INFINITY: it is not */
    double horizon; /* seconds after which a live unit of this site counts as retained: that of all
                       sites, or less where snapshots have shown that they are lost */
    struct {
        bool known, following;
        const char *gauge;
        double r2, growth;
    } load; /* follow.c */
};

struct tt_dossiers {
    const struct tt_case *c;
    size_t session; /* index into tt_judge_input.sessions */
    double horizon; /* seconds */
    uint32_t horizon_ticks;
    double alpha;
    double log_threshold; /* survival.c */
    TT_VEC(double) grid;  /* at most 256 epochs */
    double *traffic;      /* per grid point: weighted births so far of all sites that go on */
    TT_VEC(struct tt_dossier) list;
    tt_judge_name_fn *name;
    void *name_arg;
};

/* Groups the case's sites. horizon in seconds. 0 or -ENOMEM. */
int tt_dossiers_make(const struct tt_case *c, double horizon, struct tt_dossiers *out);
void tt_dossiers_free(struct tt_dossiers *all);

/* Weighted live units at a grid point. */
static inline double tt_dossier_live(const struct tt_dossier *d, size_t k)
{
    return d->grid_births[k] - d->grid_deaths[k];
}

/* Fills units and death_bins from the lists of survivors (series = false), or for members that were
 * cleaned up at exit from the series (series = true). 0 or -ENOMEM. */
int tt_dossier_lifetimes(const struct tt_dossiers *all, struct tt_dossier *d, bool series);

/* Function that holds a return address of the case, without file and line; "" unknown. Valid until
 * the next call. */
const char *tt_dossier_function(const struct tt_dossiers *all, size_t process, uint64_t pc,
                                char buf[160]);

/* Whether two processes ran the same program, in whatever build: equal names, or one name is the
 * other with a suffix ("tapisrv", "tapisrv-hotfix"), or neither session saw another program. */
bool tt_dossier_same_program(const struct tt_dossiers *a, size_t process,
                             const struct tt_dossiers *b, size_t other);

/* Whether two dossiers of different cases are the same site: same program and resource, and the
 * same innermost functions (up to 4; by build-id and offset where there are no names). */
bool tt_dossier_same(const struct tt_dossiers *a, const struct tt_dossier *x,
                     const struct tt_dossiers *b, const struct tt_dossier *y);

/* Units of a session site that one followed unit of its mean size stands for. */
double tt_dossier_weight(const struct tt_case *c, const struct tt_case_site *site);

/* Counts anew which live units are older than the dossier's horizon. */
void tt_dossier_count_retained(const struct tt_dossiers *all, struct tt_dossier *d);

/* Evidence files. Each reads the dossier and fills its own part. */
int tt_judge_survival(struct tt_dossiers *all);                          /* survival.c; all sites */
int tt_judge_delay(const struct tt_dossiers *all, struct tt_dossier *d); /* delay.c */
int tt_judge_trend(const struct tt_dossiers *all, struct tt_dossier *d); /* trend.c */
int tt_judge_follow(const struct tt_dossiers *all, struct tt_dossier *d);       /* follow.c */
void tt_judge_unreachable(const struct tt_dossiers *all, struct tt_dossier *d); /* unreachable.c */
void tt_judge_staleness(const struct tt_dossiers *all, struct tt_dossier *d);   /* staleness.c */
/* unreachable.c: the bound on the probability that a scan that calls at most one block in a
 * thousand unreachable by mistake calls `lost` or more of `blocks` so. */
double tt_judge_scan_chance(double lost, double blocks);
/* Whether a snapshot could see all that may point to blocks. */
bool tt_judge_scan_complete(const struct tt_case_snapshot *snapshot);

/* What the operation clock of a finding is, so that other sessions can be asked for the same. */
struct tt_operation_ref {
    enum { TT_OP_NONE, TT_OP_DECLARED, TT_OP_STACK, TT_OP_SITE } kind;
    char name[160];
    size_t dossier; /* TT_OP_SITE: index into the judged session's list */
};

/* What one session says about a site and an operation, over births up to horizon before its end. */
struct tt_exposure {
    bool exercised;           /* operations > 0 */
    double ops, births, lost; /* weighted */
    double lost_variance;
    double horizon; /* seconds for which the lost ones were seen to outlive their birth */
};

/* rate.c: which operation explains the retained units; fills rate and *op. */
int tt_judge_rate(const struct tt_dossiers *all, const struct tt_dossier *d, struct tt_rate *rate,
                  struct tt_operation_ref *op);
/* Operations of that kind in another (or the same) case, up to a horizon before the end of each
 * process; -1 when that case does not know the operation. */
double tt_judge_operations(const struct tt_dossiers *judged, const struct tt_operation_ref *op,
                           const struct tt_dossiers *other, double horizon);
/* rate.c: the site whose births are the operations one to one, in the judged session: an index into
 * the list, or -1. */
long tt_judge_operation_site(const struct tt_dossiers *all, const struct tt_dossier *d,
                             const struct tt_operation_ref *op);
/* control.c: the same site and operation in another session (or the judged one itself). */
void tt_judge_exposure(const struct tt_dossiers *judged, const struct tt_dossier *d,
                       const struct tt_operation_ref *op, const struct tt_dossiers *other,
                       struct tt_exposure *out);

/* A law over the label values of the sessions. */
struct tt_law_model {
    bool known;
    char covariate[64];
    struct tt_stats_law law;
};
/* law.c, control.c: fill the finding from the sessions; all[0] is the judged one. 0 or -ENOMEM. */
int tt_judge_law(const struct tt_dossiers *all, const struct tt_judge_session *sessions, size_t n,
                 const struct tt_dossier *d, const struct tt_operation_ref *op,
                 struct tt_finding *f, struct tt_law_model *model);
int tt_judge_controls(const struct tt_dossiers *all, const struct tt_judge_session *sessions,
                      size_t n, const struct tt_dossier *d, const struct tt_operation_ref *op,
                      const struct tt_law_model *model, double fix_delta, struct tt_finding *f);

/* When the session's account of a process ends: its last look, or its own end. */
double tt_dossier_end(const struct tt_case *c, size_t process);

/* cost.c: heap bytes that an allocator spends on a block of `size` bytes; 0 unknown. */
double tt_judge_cost(const char *allocator, double size);

/* owner.c: for whom live units were acquired; the evidence of it. 0 or -ENOMEM. */
void tt_judge_owner(const struct tt_dossiers *all, const struct tt_dossier *d,
                    struct tt_finding *f);
int tt_judge_tell_owner(struct tt_finding *f);
/* state.c: units whose peer has gone. 0 or -ENOMEM. */
int tt_judge_state(const struct tt_dossiers *all, struct tt_dossier *d);
int tt_judge_tell_state(const struct tt_dossiers *all, const struct tt_dossier *d,
                        struct tt_finding *f);
/* limit.c: the nearest limit on a resource that is no memory; false: none is known. */
bool tt_judge_limit(const struct tt_dossiers *all, const struct tt_dossier *d,
                    struct tt_limit_fact *out);
/* limit.c: fills d->exhausted. What comes to an end there says nothing of itself. */
void tt_judge_exhausted(const struct tt_dossiers *all, struct tt_dossier *d);
/* with.c: drops findings that are the consequence of others. 0 or -ENOMEM. */
int tt_judge_with(struct tt_dossiers *all, struct tt_findings *out);
/* The dossier of a finding, NULL when it has none. */
struct tt_dossier *tt_dossier_of(struct tt_dossiers *all, const struct tt_finding *f);

/* forecast.c, account.c, weigh.c */
void tt_judge_forecast(const struct tt_dossiers *all, const struct tt_dossier *d,
                       struct tt_finding *f);
int tt_judge_account(const struct tt_dossiers *all, struct tt_findings *out);
/* before.c: what snapshots say besides sites: the snapshots themselves, attaching, who holds the
 * units of a finding, which of them were lost before; groups of lost blocks without a site become
 * findings. 0 or -ENOMEM. */
int tt_judge_frozen(const struct tt_dossiers *all, struct tt_findings *out);
int tt_judge_before(const struct tt_dossiers *all, const struct tt_dossier *d,
                    struct tt_finding *f);
int tt_judge_groups(const struct tt_dossiers *all, struct tt_findings *out);
/* tell.c: quantities lost, once the verdict stands (a definite loss shortens the dossier's horizon
 * to what copies have shown); the evidence in words, with the live units of the middle and the last
 * third of the recording, or NaN. 0 or -ENOMEM. */
void tt_judge_tell_lost(const struct tt_dossiers *all, struct tt_dossier *d, struct tt_finding *f);
int tt_judge_tell(const struct tt_dossiers *all, const struct tt_dossier *d, struct tt_finding *f,
                  double middle, double late);
int tt_judge_weigh(const struct tt_dossiers *all, struct tt_dossier *d, struct tt_finding *f);

/* Everything on cases: tt_judge_sessions after reading. cases[i] belongs to sessions[i]. */
int tt_judge_cases(const struct tt_judge_input *input, const struct tt_case *cases,
                   struct tt_findings *out, struct tt_error *err);

#endif
