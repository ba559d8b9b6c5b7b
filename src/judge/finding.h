/* SPDX-License-Identifier: Apache-2.0 */
/* What the judge says and the report prints: findings, each a site with a verdict and the evidence
 * for it. Plain data, no behaviour but freeing. The JSON contract (docs/findings.md) is this
 * structure spelled out. Start: struct tt_finding. */
#ifndef TT_JUDGE_FINDING_H
#define TT_JUDGE_FINDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/vec.h"

/* Verdict words of DESIGN.md, in the order reports list them. */
enum tt_verdict {
    TT_VERDICT_LEAK_LOST,       /* "leak-lost": nothing points to it any more */
    TT_VERDICT_LEAK_RETAINED,   /* "leak-retained": outlives its operation beyond the horizon */
    TT_VERDICT_UNDETERMINED,    /* "undetermined" */
    TT_VERDICT_CAPACITY,        /* "capacity limit": released late, so that the limit is reached */
    TT_VERDICT_DELAYED_RELEASE, /* "delayed release" */
    TT_VERDICT_BACKLOG,         /* "backlog" */
    TT_VERDICT_CACHE,           /* "cache" */
    TT_VERDICT_WARM_UP,         /* "warm-up" */
    TT_VERDICT_LOAD_FOLLOWING,  /* "load-following" */
    TT_VERDICT_FRAGMENTATION,   /* "fragmentation" */
    TT_VERDICT_STEADY,          /* "steady" */
    TT_VERDICT_COUNT
};
const char *tt_verdict_word(enum tt_verdict verdict);
bool tt_verdict_is_leak(enum tt_verdict verdict);

struct tt_interval {
    double lo, hi; /* 95 % unless said otherwise */
};

/* One piece of evidence: a kind, a number people can weigh, one plain sentence. */
struct tt_evidence {
    const char *kind; /* "survival", "growth", "trend", "release-age", "accounting", "control",
                         "unreachable", "staleness", ... */
    double value;     /* the kind's own figure (e-value, share, exponent); NaN if none */
    double log_e;     /* natural log of the e-value for retention, or NaN */
    char text[256];
    struct { /* further figures of the kind; a NULL key ends them */
        const char *key;
        double value;
    } figure[8];
};

/* One release path of a site's blocks: stack id of the session and how often it was sampled. */
struct tt_release_path {
    int64_t process, stack;
    uint64_t samples;
    double share;   /* of the sampled deaths */
    char from[160]; /* "" this session, else which other session showed it */
    int session;    /* index into the report's session list; 0 = the judged one */
};

/* Points of the small plot: time since start (s) against live units of the site. */
struct tt_point {
    double t, units;
};

/* The operation clock that explains the losses best. */
struct tt_rate {
    double per_second; /* lost units per second over the exposure */
    struct tt_interval per_second_interval;
    bool has_operation;
    char operation[160];          /* "call" (declared) or "call_new()" */
    const char *operation_source; /* "declared", "stack", "site" */
    double operations;            /* how many were counted over the exposure */
    double per_operation;         /* lost units per operation */
    double bytes_per_operation;   /* requested bytes per operation */
    struct tt_interval per_operation_interval;
    bool exact;                         /* an integer law held in every interval looked at */
    uint64_t intervals_held, intervals; /* "held in N of N intervals" */
};

/* One session on the law: covariate, lost units, operations, and the units the law predicts. */
struct tt_law_point {
    double x, units, ops, predicted;
};

/* The law across labelled runs (report with several sessions), or a within-session one. */
enum tt_law_basis { TT_LAW_CONSTANT, TT_LAW_LINEAR, TT_LAW_HINGE /* (x - knot), x > knot */ };
struct tt_law_term {
    enum tt_law_basis basis;
    double knot;        /* of a hinge */
    double coefficient; /* of `word` per operation (and per unit of the covariate) */
};

struct tt_law_text {
    bool known;
    struct tt_law_term terms[3];
    size_t n_terms;
    bool bytes;     /* coefficients are requested bytes, else units */
    char text[256]; /* "lost bytes = 40 x (owners - 2) per call, owners > 2" */
    char covariate[64];
    double r2;
    bool identifiable;
    char caveat[256]; /* "" or what could not be told apart, and the experiment that would */
    TT_VEC(struct tt_law_point) points;
};

struct tt_forecast {
    bool known;
    char limit_name[64];
    bool counts;                 /* the limit is one of units, also where these have bytes */
    double limit;                /* bytes or units */
    double seconds;              /* until exhaustion at the measured rate */
    struct tt_interval interval; /* 90 % */
    double per_day;              /* bytes (heap cost) or units per day at the measured load */
};

/* What another session (--control) says about this finding. */
struct tt_control {
    int session;       /* index into tt_judge_input.sessions */
    char label[96];    /* its labels, "owners=2", or the session's name */
    double operations; /* of the finding's operation, over the exposure; 0: not exercised */
    double births;     /* units made at the site */
    double lost;       /* units there that outlived the horizon */
    double expected;   /* losses the judged session's rate predicts for these operations */
    bool exercised;    /* operations > 0, so that "0 lost" means something */
    bool clean;        /* exercised and nothing lost */
    char text[256];    /* "owners=2: 0 lost in 400 calls" */
};

/* Who holds units of a finding that can be reached. */
struct tt_holding {
    char place[160], path[400]; /* "global `calls+0x10` in tapisrv (.bss)"; the way from there */
    double units, bytes;        /* of the finding's site */
};

/* For whom the live units of a site were acquired. */
struct tt_owner_fact {
    bool known;            /* of nearly all of them; else the rest says nothing */
    double units, unknown; /* with an owner that is known, and without */
    double owners;         /* how many */
    double outlived;       /* units whose owner went away longer ago than the grace (5 s), */
    double released;       /* and those that were released that long after their owner had gone */
    bool outlives;         /* hardly any is released then */
    char address[64], host[64], exe[160]; /* common to all of them, "" not */
    int64_t pid;                          /* likewise, 0 not */
    /* The process (pid 0: not known, the address) for which most were acquired, where there are
     * several clients and one stands out. */
    struct {
        double units; /* 0: none does */
        int64_t pid;
        char address[64], exe[160];
    } most;
    char text[200]; /* "only on behalf of clients from 10.0.0.7, in 12 connections" */
};

/* What the kernel says of live units. */
struct tt_state_fact {
    const char *name, *words; /* "CLOSE_WAIT"; what that means */
    double now, units, of;    /* in that state; for longer than the horizon; live */
    double first, last,
        oldest; /* seconds: when the first and the last of `units` came to it; age */
    size_t moments;
    bool holds; /* enough for a verdict */
};

/* A limit that binds a resource. */
struct tt_limit_fact {
    const char *name;
    double value, used;
};

/* A resource that is released late and reaches its limit by the rate at which it is acquired. */
struct tt_capacity_fact {
    bool known;
    char limit_name[64];
    double limit, peak, delay, plateau; /* units; delay in seconds */
};

/* Lost blocks of one shape that no site is known for. */
struct tt_lost_group {
    uint64_t fingerprint;
    double roots;                  /* of them: nothing lost points to them either */
    double hung_units, hung_bytes; /* other lost blocks that hang on these */
    char shape[240], samples[200]; /* what they look like; addresses, hex */
};

struct tt_finding {
    int id;               /* 1.. in the order of the report */
    const char *resource; /* "heap", "fd", ... or a declared name */
    char place[96];       /* of units that nothing was seen to acquire; "" */
    enum tt_verdict verdict;
    double severity; /* heap-cost bytes per day lost, for ordering; 0 when not a leak */
    int64_t process, site, stack;
    uint32_t size_min, size_max;   /* requested bytes of a unit */
    double unit_cost;              /* heap bytes per unit incl. the allocator's own; 0 unknown */
    uint64_t births, deaths, live; /* units over the session (weighted estimates if sampled) */
    uint64_t lost_units;           /* survivors past the horizon that the verdict speaks of */
    double lost_bytes, lost_cost;  /* requested; with the allocator's own */
    double estimate_sd;            /* sd of lost_units when sampled, 0 in exact mode */
    double horizon;                /* A: seconds the verdict speaks about */
    bool horizon_short;            /* shorter than the default of METHODS.md (600 s): say so */
    double quiet_seconds;          /* how long nothing was born at the end while survivors stayed */
    double confidence;             /* 0..1; of the verdict */
    char would_change_it[256];
    char note[256]; /* one line for the NOT LEAKS list, e.g. "32.0 s timer" */
    bool confirmed; /* controls ran and were clean */
    struct tt_rate rate;
    struct tt_law_text law;
    struct tt_forecast forecast;
    TT_VEC(struct tt_evidence) evidence;
    TT_VEC(struct tt_release_path) releases;
    /* Where the finding's operations end: the releases of the site whose births are the operations
     * one to one (operation_site, 0: none known). "The lost ones' calls ended through ...". */
    int64_t operation_site;
    TT_VEC(struct tt_release_path) operation_releases;
    TT_VEC(struct tt_control) controls;
    char workaround[256]; /* "" or "keep owners <= 2 (0 lost in 400 calls)" */
    TT_VEC(struct tt_point) series;
    bool has_group; /* a finding without a site (site and stack 0): these blocks are all there is */
    struct tt_lost_group group;
    TT_VEC(struct tt_holding) holders; /* most bytes first */
    struct {                           /* the latest snapshot of the process, where there is one */
        bool looked;
        double at;           /* seconds since the session's origin */
        double units, of;    /* followed units found unreachable, of those live then */
        bool holds, doubted; /* enough to say lost; unread memory or tagged pointers forbid it */
    } unreachable;
    struct tt_owner_fact owner;
    struct tt_state_fact state;
    struct tt_capacity_fact capacity;
    struct { /* of this site, lost before recording began; also units that were not sampled */
        bool looked;
        double units, bytes; /* usable bytes */
        double probability;  /* that one such unit is of this site */
    } before;
    struct {
        double exposure; /* losses that A's law predicts for the fixed build's operations */
        double residual; /* lost there / exposure */
        bool known;      /* a --fixed session was given */
        bool fixed;      /* residual below the bound with 95 % confidence */
        bool exercised;  /* the operation ran there at all */
        char build_id[48];
        char text[256];
    } fix;
};

/* The latest snapshot of a process. */
struct tt_snapshot_fact {
    int64_t process;
    double at; /* seconds since the session's origin */
    bool core, complete;
    size_t taken; /* snapshots of this process */
    char allocator[64];
    double stop, fork, scan; /* seconds; of the longest stop */
    double blocks, bytes;    /* in use */
    double lost_units, lost_bytes, lost_roots;
    double unread_bytes, doubt_bytes, tagged, groups_left_out;
    /* Of the lost: born before attach (or not sampled), and of these without a site. Bytes as far
     * as the groups that were kept say. */
    double old_units, old_bytes, unknown_units, unknown_bytes;
    TT_VEC(struct tt_holding) holders; /* of everything that can be reached, most bytes first */
};

struct tt_attach_fact {
    int64_t process;
    double at, detached;             /* seconds; detached 0: not detached by telltale */
    double start, stop, detach_stop; /* seconds that one thread stood still, and all of them */
    double ran;                      /* how long the process had run; 0 unknown */
    uint32_t entries, slots, kept;   /* patched; release functions that stay hooked */
    char notes[1024];                /* lines: what could not be hooked */
};

struct tt_findings {
    TT_VEC(struct tt_snapshot_fact) snapshots;
    TT_VEC(struct tt_attach_fact) attaches;
    TT_VEC(struct tt_finding) list; /* leaks first, then by severity */
    bool leak;                      /* any leak verdict */
    TT_VEC(char *) strings;         /* owns what findings point to (resource names) */
    uint64_t sites_looked_at;
    uint64_t sites_not_listed; /* non-leaks beyond the bound of the list */
    double log_threshold; /* ln of the e-value a site had to reach (e-BH); +INFINITY none did */
    double horizon;       /* seconds */
    struct {
        double seconds, rss_slope, live_slope;
        enum tt_verdict verdict;
        char text[256];
    } process_heap;
    /* the frame: fragmentation by accounting; verdict STEADY or FRAGMENTATION */
};
void tt_findings_free(struct tt_findings *findings);
/* Bytes that a finding says are lost: since recording began, requested; before it, usable. */
double tt_finding_lost_bytes(const struct tt_finding *finding);
/* Frees what one finding owns. */
void tt_finding_free(struct tt_finding *finding);

#endif
