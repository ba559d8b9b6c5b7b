/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator of test_judge_sim.h. Start: sim_site. */
#include "test_judge_sim.h"

#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define CODE 0x400000u

void sim_open(struct sim *sim, uint64_t seed, double seconds, double epoch)
{
    *sim = (struct sim){.seconds = seconds, .exit_at = SIM_NEVER, .next_pc = CODE + 16};
    tt_stats_rng_seed(&sim->rng, seed);
    struct tt_case_process p = {.id = 1, .started = 0, .look = seconds};
    snprintf(p.exe, sizeof p.exe, "/opt/sim/server");
    snprintf(p.build_id, sizeof p.build_id, "aaaa");
    snprintf(p.allocator, sizeof p.allocator, "glibc");
    struct tt_case_module m = {.start = CODE, .end = CODE + 0x100000};
    snprintf(m.path, sizeof m.path, "/opt/sim/server");
    snprintf(m.build_id, sizeof m.build_id, "aaaa");
    assert_int_equal(tt_vec_push(&p.modules, m), 0);
    assert_int_equal(tt_vec_push(&sim->c.processes, p), 0);
    sim->c.exact = true;
    snprintf(sim->c.name, sizeof sim->c.name, "sim");
    size_t n = (size_t)floor(seconds / epoch);
    for (size_t i = 0; i <= n; i++)
        assert_int_equal(tt_vec_push(&sim->c.epochs, fmin(seconds, (double)i * epoch)), 0);
    if (sim->c.epochs.data[n] < seconds)
        assert_int_equal(tt_vec_push(&sim->c.epochs, seconds), 0);
    sim->c.end = seconds;
}

void sim_close(struct sim *sim)
{
    tt_case_free(&sim->c);
    tt_vec_free(&sim->lives);
    tt_vec_free(&sim->ops);
}

double sim_flat(const struct sim *sim, double t)
{
    (void)sim;
    (void)t;
    return INFINITY;
}

void sim_load(struct sim *sim, double peak, double (*rate)(const struct sim *sim, double t))
{
    double end = fmin(sim->seconds, sim->exit_at);
    for (double t = 0; (t += tt_stats_rng_exponential(&sim->rng, 1 / peak)) < end;)
        if (tt_stats_rng_uniform(&sim->rng) * peak < rate(sim, t))
            assert_int_equal(tt_vec_push(&sim->ops, t), 0);
}

void sim_operation(struct sim *sim, const char *name, bool declared, uint64_t address)
{
    struct tt_case_operation op = {
        .id = (int64_t)sim->c.operations.len + 1, .address = address, .declared = declared};
    snprintf(op.name, sizeof op.name, "%s", name);
    snprintf(op.function, sizeof op.function, "f%llx", (unsigned long long)address);
    size_t k = 0;
    for (size_t i = 0; i < sim->c.epochs.len; i++) {
        while (k < sim->ops.len && sim->ops.data[k] <= sim->c.epochs.data[i])
            k++;
        struct tt_case_count row = {sim->c.epochs.data[i], (double)k};
        assert_int_equal(tt_vec_push(&op.rows, row), 0);
    }
    assert_int_equal(tt_vec_push(&sim->c.operations, op), 0);
}

void sim_unit(struct sim *sim, double birth, double death, uint32_t size)
{
    struct sim_life life = {birth, death, size, SIM_NEVER};
    if (birth < sim->seconds && birth < sim->exit_at)
        assert_int_equal(tt_vec_push(&sim->lives, life), 0);
}

void sim_lose(struct sim *sim, double birth, double lost, uint32_t size)
{
    struct sim_life life = {birth, SIM_NEVER, size, lost};
    if (birth < sim->seconds && birth < sim->exit_at)
        assert_int_equal(tt_vec_push(&sim->lives, life), 0);
}

void sim_copy(struct sim *sim, double t)
{
    struct tt_case_snapshot s = {.id = (int64_t)sim->c.snapshots.len + 1,
                                 .t = t,
                                 .tick = (uint32_t)(t * TT_STATS_TICKS_PER_SECOND),
                                 .detailed = true,
                                 .stop = 0.013};
    assert_int_equal(tt_vec_push(&sim->c.snapshots, s), 0);
}

static bool found_lost(struct sim *sim, const struct sim_life *life, double t)
{
    double u = tt_stats_rng_uniform(&sim->rng);
    if (life->lost <= t)
        return u >= sim->scan.missed;
    return u < (t - life->birth < sim->scan.young ? sim->scan.in_flight : sim->scan.false_share);
}

/* The site's part of a copy: one group, one share. */
static void search_copy(struct sim *sim, size_t at, int64_t site)
{
    struct tt_case_snapshot *s = &sim->c.snapshots.data[at];
    struct tt_case_share share = {.snapshot = at, .group = site, .site = site, .probability = 1};
    double strays = 0, old = sim->strays;
    for (size_t i = 0; i < sim->lives.len; i++) {
        const struct sim_life *life = &sim->lives.data[i];
        if (life->birth > s->t || life->death <= s->t)
            continue;
        s->blocks++;
        s->bytes += life->size;
        if (!found_lost(sim, life, s->t))
            continue;
        if (life->birth >= 0) {
            share.known_units++;
            share.known_bytes += life->size;
        } else if (tt_stats_rng_uniform(&sim->rng) < sim->scan.astray) {
            strays++;
        } else {
            old++;
        }
    }
    if (at + 1 == sim->c.snapshots.len)
        sim->strays = strays;
    share.old_units = old;
    share.old_bytes = 48 * old;
    share.probability = 1 - sim->scan.astray;
    double lost = share.known_units + old;
    s->lost_units += lost;
    s->lost_roots += lost;
    s->lost_bytes += share.known_bytes + share.old_bytes;
    s->old_units += old;
    if (lost > 0)
        assert_int_equal(tt_vec_push(&sim->c.shares, share), 0);
}

static void forget_old(struct sim *sim)
{
    size_t kept = 0;
    for (size_t i = 0; i < sim->lives.len; i++)
        if (sim->lives.data[i].birth >= 0)
            sim->lives.data[kept++] = sim->lives.data[i];
    sim->lives.len = kept;
}

static int by_birth(const void *a, const void *b)
{
    const struct sim_life *x = a, *y = b;
    return (x->birth > y->birth) - (x->birth < y->birth);
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static uint32_t tick(double t)
{
    return (uint32_t)(t * TT_STATS_TICKS_PER_SECOND);
}

void sim_site(struct sim *sim, const uint64_t *pcs, size_t n)
{
    uint64_t fresh[2] = {sim->next_pc, CODE + 8};
    sim->next_pc += 16;
    int64_t id = (int64_t)sim->c.sites.len + 1;
    assert_int_equal(tt_case_add_stack(&sim->c, 0, id, pcs ? pcs : fresh, pcs ? n : 2), 0);
    struct tt_case_site s = {.id = id, .stack = id, .size_min = UINT32_MAX};
    snprintf(s.resource, sizeof s.resource, "heap");
    double end = fmin(sim->seconds, sim->exit_at);
    for (size_t i = 0; i < sim->c.snapshots.len; i++)
        search_copy(sim, i, id);
    forget_old(sim);
    size_t m = sim->lives.len;
    double *deaths = calloc(m + 1, sizeof *deaths);
    assert_non_null(deaths);
    if (m)
        qsort(sim->lives.data, m, sizeof *sim->lives.data, by_birth);
    for (size_t i = 0; i < m; i++) {
        const struct sim_life *life = &sim->lives.data[i];
        deaths[i] = life->death;
        s.size_min = life->size < s.size_min ? life->size : s.size_min;
        s.size_max = life->size > s.size_max ? life->size : s.size_max;
        if (life->death > end) {
            struct tt_case_unit *last =
                s.survivors.len ? &s.survivors.data[s.survivors.len - 1] : NULL;
            if (last && last->tick == tick(life->birth) && last->size == life->size)
                last->count++;
            else
                assert_int_equal(
                    tt_vec_push(&s.survivors,
                                (struct tt_case_unit){life->size, tick(life->birth), 1}),
                    0);
            continue;
        }
        uint32_t age = tick(life->death) - tick(life->birth);
        s.deaths[tt_stats_bin_of(age)]++;
        if (i < 8 || i % 64 == 0)
            assert_int_equal(tt_vec_push(&s.release_ages, (struct tt_stats_age){age, 1}), 0);
    }
    qsort(deaths, m, sizeof *deaths, by_number);
    size_t born = 0, died = 0;
    double bytes = 0, mean = m ? sim->lives.data[0].size : 0;
    for (size_t k = 0; k < sim->c.epochs.len; k++) {
        double t = sim->c.epochs.data[k];
        size_t b = born, d = died;
        while (b < m && sim->lives.data[b].birth <= t)
            bytes += sim->lives.data[b++].size;
        while (d < m && deaths[d] <= t && deaths[d] <= end)
            d++;
        if (k && b == born && d == died && k + 1 < sim->c.epochs.len)
            continue;
        born = b;
        died = d;
        struct tt_case_row row = {t, (double)b, bytes, (double)d, mean * (double)d};
        assert_int_equal(tt_vec_push(&s.rows, row), 0);
    }
    free(deaths);
    sim->lives.len = 0;
    sim->c.processes.data[0].ended = sim->exit_at <= sim->seconds;
    sim->c.processes.data[0].ended_at = sim->exit_at;
    assert_int_equal(tt_vec_push(&sim->c.sites, s), 0);
}

void sim_process(struct sim *sim, double (*fds)(const struct sim *sim, double t))
{
    size_t k = 0;
    for (size_t i = 0; i < sim->c.epochs.len; i++) {
        double t = sim->c.epochs.data[i];
        while (k < sim->ops.len && sim->ops.data[k] <= t)
            k++;
        struct tt_case_proc_row row = {.t = t,
                                       .rss_anon = 1e7,
                                       .heap_live = 1e6,
                                       .heap_held = 2e6,
                                       .fds = fds ? fds(sim, t) : 8,
                                       .threads = 1,
                                       .cpu_ms = 10 * (double)k};
        assert_int_equal(tt_vec_push(&sim->c.processes.data[0].rows, row), 0);
    }
}

const char *sim_name(void *arg, size_t session, int64_t process, uint64_t pc)
{
    static char name[32];
    (void)arg;
    (void)session;
    (void)process;
    snprintf(name, sizeof name, "f%llx@sim.c:%llu", (unsigned long long)pc & ~15ull,
             (unsigned long long)pc & 0xff);
    return name;
}

void sim_judge(const struct sim *sim, double horizon, struct tt_findings *out)
{
    struct tt_judge_session session = {.name = "sim", .role = TT_JUDGE_JUDGED};
    struct tt_judge_input input = {
        .sessions = &session, .n_sessions = 1, .horizon_s = horizon, .name = sim_name};
    struct tt_error err = {0};
    assert_int_equal(tt_judge_cases(&input, &sim->c, out, &err), 0);
}

const struct tt_finding *sim_finding(const struct sim *sim, const struct tt_findings *out,
                                     size_t site)
{
    for (size_t i = 0; i < out->list.len; i++)
        if (out->list.data[i].site == sim->c.sites.data[site].id)
            return &out->list.data[i];
    fail_msg("no finding for site %zu", site);
    return NULL;
}
