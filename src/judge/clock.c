/* SPDX-License-Identifier: Apache-2.0 */
/* The clocks of clock.h. Start: tt_clock_at. */
#include "judge/clock.h"

#include <math.h>
#include <string.h>

#define ACTIVE_TRAFFIC 0.1
#define ACTIVE_CPU 0.3
#define FUNCTION_BYTES                                                                             \
    8192u /* without names: a return address this far above an entry is in it                      \
           */

int tt_clock_open(const struct tt_dossiers *all, struct tt_clock *clock)
{
    *clock = (struct tt_clock){.all = all};
    clock->value = calloc(all->grid.len ? all->grid.len : 1, sizeof *clock->value);
    return clock->value ? 0 : -ENOMEM;
}

void tt_clock_close(struct tt_clock *clock)
{
    free(clock->value);
    clock->value = NULL;
}

double tt_clock_at(const struct tt_clock *clock, double t)
{
    const double *grid = clock->all->grid.data;
    size_t n = clock->all->grid.len;
    if (!n || t <= grid[0])
        return n ? clock->value[0] : 0;
    if (t >= grid[n - 1])
        return clock->value[n - 1];
    size_t lo = 0, hi = n - 1;
    while (hi - lo > 1) {
        size_t mid = (lo + hi) / 2;
        if (grid[mid] <= t)
            lo = mid;
        else
            hi = mid;
    }
    return clock->value[lo] +
           (clock->value[hi] - clock->value[lo]) * (t - grid[lo]) / (grid[hi] - grid[lo]);
}

void tt_clock_add_operation(struct tt_clock *clock, const struct tt_case_operation *op)
{
    for (size_t k = 0; k < clock->all->grid.len; k++)
        clock->value[k] += tt_case_operation_at(op, clock->all->grid.data[k]);
    clock->since = fmax(clock->since, op->since);
}

void tt_clock_add_births(struct tt_clock *clock, const struct tt_dossier *d)
{
    for (size_t k = 0; d->grid_births && k < clock->all->grid.len; k++)
        clock->value[k] += d->grid_births[k];
}

/* The site's own part of the traffic. */
static double own_births(const struct tt_dossier *d, size_t k)
{
    return d->grid_births && d->in_traffic ? d->grid_births[k] : 0;
}

void tt_clock_traffic(struct tt_clock *clock, const struct tt_dossier *d)
{
    for (size_t k = 0; k < clock->all->grid.len; k++)
        clock->value[k] = clock->all->traffic[k] - own_births(d, k);
}

static double cpu_at(const struct tt_dossiers *all, const struct tt_dossier *d, double t)
{
    double sum = 0;
    for (size_t i = 0; i < all->c->processes.len; i++) {
        const struct tt_case_process *p = &all->c->processes.data[i];
        if (!tt_dossier_in(all, d, i))
            continue;
        double last = 0;
        for (size_t r = 0; r < p->rows.len && p->rows.data[r].t <= t; r++)
            last = p->rows.data[r].cpu_ms;
        sum += last;
    }
    return sum;
}

void tt_clock_active(struct tt_clock *clock, const struct tt_dossier *d)
{
    const double *grid = clock->all->grid.data;
    size_t n = clock->all->grid.len;
    double births = 0, cpu = 0, seconds = 0;
    for (size_t k = 1; k < n; k++) {
        if (grid[k] <= d->first || grid[k - 1] >= d->last_birth)
            continue;
        seconds += grid[k] - grid[k - 1];
        births += clock->all->traffic[k] - clock->all->traffic[k - 1];
        births -= own_births(d, k) - own_births(d, k - 1);
        cpu += cpu_at(clock->all, d, grid[k]) - cpu_at(clock->all, d, grid[k - 1]);
    }
    for (size_t k = 1; k < n; k++) {
        double dt = grid[k] - grid[k - 1];
        double made = clock->all->traffic[k] - clock->all->traffic[k - 1];
        made -= own_births(d, k) - own_births(d, k - 1);
        double used = cpu_at(clock->all, d, grid[k]) - cpu_at(clock->all, d, grid[k - 1]);
        bool own = d->grid_births && d->grid_births[k] > d->grid_births[k - 1];
        bool active = own || (births <= 0 && cpu <= 0) ||
                      (births > 0 && made >= ACTIVE_TRAFFIC * births / seconds * dt) ||
                      (cpu > 0 && used >= ACTIVE_CPU * cpu / seconds * dt);
        clock->value[k] = clock->value[k - 1] + (active ? dt : 0);
    }
}

bool tt_dossier_in(const struct tt_dossiers *all, const struct tt_dossier *d, size_t process)
{
    for (size_t i = 0; i < d->members.len; i++)
        if (all->c->sites.data[d->members.data[i].site].process == process)
            return true;
    return false;
}

static bool nearest_below(const struct tt_case *c, const struct tt_case_operation *op, uint64_t pc)
{
    if (op->address == 0 || op->address >= pc || pc - op->address > FUNCTION_BYTES)
        return false;
    for (size_t i = 0; i < c->operations.len; i++) {
        const struct tt_case_operation *other = &c->operations.data[i];
        if (other->process == op->process && other->address > op->address && other->address < pc)
            return false;
    }
    return true;
}

long tt_clock_frame(const struct tt_dossiers *all, const struct tt_dossier *d,
                    const struct tt_case_operation *op)
{
    const struct tt_case_stack *stack = tt_case_stack(all->c, d->process, d->stack);
    bool same_process = op->process == d->process;
    for (size_t i = 0; stack && i < stack->n; i++) {
        char name[160];
        tt_dossier_function(all, d->process, stack->pc[i], name);
        if (name[0] && strcmp(name, op->function) == 0)
            return (long)i;
        if (same_process && nearest_below(all->c, op, stack->pc[i]))
            return (long)i;
    }
    return -1;
}
