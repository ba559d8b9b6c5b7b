/* SPDX-License-Identifier: Apache-2.0 */
/* The text of what a campaign of faults found, and the folding that both formats share: faults of
 * one stack that lose the same are one finding, with the errors and calls that did it.
 * Start: tt_report_faults. */
#include "report/faults.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/plan.h"
#include "report/faults_internal.h"
#include "report/phrase.h"
#include "report/stack.h"

#define MOST_WRITTEN 40
#define NAME_WIDTH 60
#define MODULE_SPACE 40 /* modules lie 2^40 apart in the addresses that symbols are asked for */

/* ---- folding ---- */

static void add_cause(struct tt_faults_cause *cause, const struct tt_fault_trial *t)
{
    size_t i = 0, k = 0;
    cause->site = t->site;
    cause->outcome = t->outcome;
    cause->status = t->status;
    while (i < cause->n_errors && cause->errors[i] != t->code)
        i++;
    while (k < cause->n_nth && cause->nth[k] != t->nth)
        k++;
    if (i == TT_FAULTS_LIST || k == TT_FAULTS_LIST) {
        cause->more++;
        return;
    }
    cause->errors[i] = t->code;
    cause->n_errors += i == cause->n_errors;
    cause->nth[k] = t->nth;
    cause->n_nth += k == cause->n_nth;
}

static int add_loss(struct tt_faults *f, const struct tt_fault_loss *l)
{
    const struct tt_fault_trial *t = &f->r->trials.data[l->trial];
    for (size_t i = 0; i < f->losses.len; i++) {
        struct tt_faults_loss *had = &f->losses.data[i];
        if (had->cause.site != t->site || had->site != l->site || had->kind != l->kind ||
            had->weight != l->weight)
            continue;
        had->units = l->units > had->units ? l->units : had->units;
        had->bytes = l->bytes > had->bytes ? l->bytes : had->bytes;
        add_cause(&had->cause, t);
        return 0;
    }
    struct tt_faults_loss made = {.site = l->site,
                                  .kind = l->kind,
                                  .weight = l->weight,
                                  .units = l->units,
                                  .bytes = l->bytes};
    add_cause(&made.cause, t);
    return tt_vec_push(&f->losses, made);
}

static int add_death(struct tt_faults *f, const struct tt_fault_trial *t)
{
    for (size_t i = 0; i < f->deaths.len; i++)
        if (f->deaths.data[i].site == t->site && f->deaths.data[i].outcome == t->outcome) {
            add_cause(&f->deaths.data[i], t);
            return 0;
        }
    struct tt_faults_cause made = {0};
    add_cause(&made, t);
    return tt_vec_push(&f->deaths, made);
}

/* By weight, then in the order in which the failing stack was first tried, then by resource. */
static int by_weight(const void *a, const void *b)
{
    const struct tt_faults_loss *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight < y->weight ? -1 : 1;
    if (x->cause.site != y->cause.site)
        return x->cause.site < y->cause.site ? -1 : 1;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return x->site < y->site ? -1 : x->site > y->site;
}

static int fold(struct tt_faults *f)
{
    for (size_t i = 0; i < f->r->losses.len; i++)
        if (add_loss(f, &f->r->losses.data[i]))
            return -ENOMEM;
    for (size_t i = 0; i < f->r->trials.len; i++) {
        const struct tt_fault_trial *t = &f->r->trials.data[i];
        if (t->outcome > TT_FAULT_HUNG)
            continue;
        f->outcomes[t->outcome]++;
        if ((t->outcome == TT_FAULT_DIED || t->outcome == TT_FAULT_HUNG) && add_death(f, t))
            return -ENOMEM;
    }
    if (f->losses.len)
        qsort(f->losses.data, f->losses.len, sizeof *f->losses.data, by_weight);
    return 0;
}

/* ---- symbols ---- */

static uint64_t address_of(const struct tt_faults *f, uint64_t frame)
{
    uint32_t module = TT_FAULT_FRAME_MODULE(frame);
    uint64_t base = module == f->fixed ? 0 : (uint64_t)module << MODULE_SPACE;
    return base + TT_FAULT_FRAME_OFFSET(frame);
}

/* A program that is linked to fixed addresses (ELF type ET_EXEC) has its symbols only there. */
static bool is_fixed(const char *path)
{
    unsigned char head[EI_NIDENT + 2] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    bool fixed = read(fd, head, sizeof head) == sizeof head && memcmp(head, ELFMAG, SELFMAG) == 0 &&
                 head[EI_NIDENT] == ET_EXEC;
    close(fd);
    return fixed;
}

static int open_symbols(struct tt_faults *f, struct tt_error *err)
{
    const struct tt_fault_world *w = &f->r->world;
    TT_VEC(struct tt_symbol_module) modules = {0};
    for (size_t i = 1; i < w->modules.len; i++) {
        const struct tt_fault_place *m = &w->modules.data[i];
        uint64_t skew = m->start & 4095;
        if (is_fixed(m->path))
            f->fixed = (uint32_t)i;
        uint64_t base = address_of(f, TT_FAULT_FRAME(i, 0));
        if (tt_vec_push(&modules, (struct tt_symbol_module){.path = m->path,
                                                            .build_id = "",
                                                            .start = base + m->start - skew,
                                                            .end = base + m->end,
                                                            .file_offset = m->offset - skew}))
            break;
    }
    f->symbols = tt_symbol_open(modules.data, modules.len, NULL, err);
    tt_vec_free(&modules);
    return f->symbols ? 0 : err->code;
}

int tt_faults_frames(const struct tt_faults *f, uint32_t site, unsigned depth,
                     struct tt_symbol_frame **frames, size_t *n)
{
    const struct tt_fault_site *s = &f->r->world.sites.data[site];
    TT_VEC(struct tt_symbol_frame) all = {0};
    for (unsigned i = 0; i < s->depth && i < depth; i++) {
        const struct tt_symbol_frame *some;
        size_t count;
        if (tt_symbol_lookup(f->symbols, address_of(f, s->frames[i]), true, &some, &count)) {
            tt_vec_free(&all);
            return -ENOMEM;
        }
        for (size_t k = 0; k < count; k++)
            if (tt_vec_push(&all, some[k])) {
                tt_vec_free(&all);
                return -ENOMEM;
            }
    }
    *frames = all.data;
    *n = all.len;
    return 0;
}

const char *tt_faults_outcome(unsigned outcome)
{
    static const char *const names[] = {
        [TT_FAULT_UNTRIED] = "not tried", [TT_FAULT_UNREACHED] = "unreached",
        [TT_FAULT_WENT_ON] = "went on",   [TT_FAULT_GAVE_UP] = "gave up",
        [TT_FAULT_DIED] = "died",         [TT_FAULT_HUNG] = "hung",
    };
    return names[outcome <= TT_FAULT_HUNG ? outcome : TT_FAULT_UNREACHED];
}

/* ---- text ---- */

/* Innermost frames of a that b does not share. */
static unsigned differ(const struct tt_fault_site *a, const struct tt_fault_site *b)
{
    unsigned same = 0;
    while (same < a->depth && same < b->depth &&
           a->frames[a->depth - 1 - same] == b->frames[b->depth - 1 - same])
        same++;
    return a->depth - same;
}

/* above: a stack that was printed already; the frames shared with it are not printed again. May be
 * the site itself. */
static void put_stack(const struct tt_faults *f, uint32_t site, uint32_t above, struct tt_text *out)
{
    const struct tt_fault_site *sites = f->r->world.sites.data;
    struct tt_symbol_frame *frames = NULL;
    size_t n = 0;
    unsigned depth = site == above ? sites[site].depth : differ(&sites[site], &sites[above]);
    if (tt_faults_frames(f, site, depth, &frames, &n)) {
        out->failed = 1;
        return;
    }
    struct tt_stack_view view = tt_stack_trim(frames, n);
    size_t first = view.first - (view.through != NULL); /* "setlocale", whose malloc it is */
    for (size_t i = first; i < view.end; i++) {
        struct tt_text name = {0}, place = {0};
        tt_stack_name(&name, &frames[i], NAME_WIDTH);
        tt_stack_place(&place, &frames[i]);
        char *where = tt_article_clean(place.data);
        tt_text_add(out, "         %s%s%s\n", tt_phrase_text(name.data), place.data ? "  " : "",
                    tt_phrase_text(where));
        out->failed |= name.failed;
        free(where);
        tt_text_free(&name);
        tt_text_free(&place);
    }
    if (depth < sites[site].depth)
        tt_text_add(out, "         (called as above)\n");
    free(frames);
}

static void put_cause(const struct tt_faults *f, const struct tt_faults_cause *c,
                      struct tt_text *out)
{
    unsigned call = f->r->world.sites.data[c->site].call;
    tt_text_add(out, "%s fails with ", tt_fault_call_name(call));
    for (size_t i = 0; i < c->n_errors; i++)
        tt_text_add(out, "%s%s", i ? " or " : "",
                    c->errors[i] == TT_FAULT_SHORT ? "a transfer of one byte"
                                                   : tt_fault_error_name(c->errors[i]));
    tt_text_add(out, " (call ");
    for (size_t i = 0; i < c->n_nth; i++) {
        if (c->nth[i])
            tt_text_add(out, "%s%u", i ? " or " : "", c->nth[i]);
        else
            tt_text_add(out, "%severy", i ? " or " : "");
    }
    tt_text_add(out, " of this stack)\n");
}

static void put_units(const struct tt_faults_loss *l, struct tt_text *out)
{
    tt_phrase units;
    char size[32];
    const char *resource = tt_fault_kind_name(l->kind);
    tt_text_add(out, "%s", tt_phrase_units(units, resource, (double)l->units));
    if (tt_phrase_sized(resource))
        tt_text_add(out, ", %s,", tt_text_size(size, (double)l->bytes));
}

static bool same_cause(const struct tt_faults_cause *a, const struct tt_faults_cause *b)
{
    bool same = a->site == b->site && a->n_errors == b->n_errors && a->n_nth == b->n_nth;
    for (size_t i = 0; same && i < a->n_errors; i++)
        same = a->errors[i] == b->errors[i];
    for (size_t i = 0; same && i < a->n_nth; i++)
        same = a->nth[i] == b->nth[i];
    return same;
}

/* The losses of one weight, those of one failing stack under one head. */
static void put_losses(const struct tt_faults *f, unsigned weight, const char *head, size_t max,
                       struct tt_text *out)
{
    size_t written = 0, all = 0;
    const struct tt_faults_loss *last = NULL;
    for (size_t i = 0; i < f->losses.len; i++) {
        const struct tt_faults_loss *l = &f->losses.data[i];
        if (l->weight != weight)
            continue;
        if (!all++)
            tt_text_add(out, "\n%s\n", head);
        if (written == max)
            continue;
        bool same = last && same_cause(&last->cause, &l->cause);
        if (!same) {
            tt_text_add(out, "\n%4zu. ", ++written);
            put_cause(f, &l->cause, out);
            put_stack(f, l->cause.site, l->cause.site, out);
        }
        tt_text_add(out, "      then ");
        put_units(l, out);
        tt_text_add(out, " acquired by %s in\n",
                    tt_fault_call_name(f->r->world.sites.data[l->site].call));
        put_stack(f, l->site, l->cause.site, out);
        last = l;
    }
    if (all && written == max && max)
        tt_text_add(out, "\n      and what the JSON lists beyond these %zu\n", max);
}

/* That a program calls abort(3) when it has no memory is its way, and one line for all of them. */
static bool aborts(const struct tt_faults_cause *c)
{
    return c->outcome == TT_FAULT_DIED && WTERMSIG(c->status) == SIGABRT;
}

static void put_deaths(const struct tt_faults *f, size_t max, struct tt_text *out)
{
    size_t written = 0, more = 0, aborted = 0;
    for (size_t i = 0; i < f->deaths.len; i++) {
        const struct tt_faults_cause *c = &f->deaths.data[i];
        aborted += aborts(c);
        more += !aborts(c) && written == max;
        if (aborts(c) || written == max)
            continue;
        if (!written)
            tt_text_add(out, "\nENDS BADLY WHEN A CALL FAILS\n");
        tt_text_add(out, "\n%4zu. ", ++written);
        put_cause(f, c, out);
        put_stack(f, c->site, c->site, out);
        if (c->outcome == TT_FAULT_HUNG)
            tt_text_add(out, "      then the program hangs\n");
        else
            tt_text_add(out, "      then the program dies of SIG%s\n",
                        sigabbrev_np(WTERMSIG(c->status)) ? sigabbrev_np(WTERMSIG(c->status))
                                                          : "?");
    }
    if (more)
        tt_text_add(out, "\n      and %zu more, see the JSON\n", more);
    if (aborted)
        tt_text_add(out, "\nIt aborts (SIGABRT) when a call fails at %zu stacks, see the JSON\n",
                    aborted);
}

static void put_head(const struct tt_faults *f, struct tt_text *out)
{
    const struct tt_fault_result *r = f->r;
    char seconds[32], usual[32];
    char *name = tt_article_clean(f->input->argv[0]);
    size_t tried = r->tried + r->tried_before;
    tt_text_add(out, "%s: %zu call stacks that can fail, %zu faults tried", tt_phrase_text(name),
                r->sites, tried);
    if (r->tried_before)
        tt_text_add(out, ", %zu of them before and the others", r->tried_before);
    tt_text_add(out, " in %s", tt_text_duration(seconds, r->seconds));
    free(name);
    tt_text_add(out,
                "\n%zu of them lose something; the program went on after %zu, gave up after %zu, "
                "died of %zu, hung after %zu; %zu did not come up\n",
                r->losing, f->outcomes[TT_FAULT_WENT_ON], f->outcomes[TT_FAULT_GAVE_UP],
                f->outcomes[TT_FAULT_DIED], f->outcomes[TT_FAULT_HUNG],
                f->outcomes[TT_FAULT_UNREACHED]);
    if (r->left_over)
        tt_text_add(out, "%zu faults were not tried: %s\n", r->left_over,
                    r->over_budget ? "the time budget was used up (--resume goes on)"
                                   : "stopped (--resume goes on)");
    if (r->unsteady)
        tt_text_add(out,
                    "two runs without a fault differed in %u stacks: those that came up in both "
                    "were tried\n",
                    r->unsteady);
    if (!r->searched)
        tt_text_add(out,
                    "heap blocks were only counted, not searched for (%s): among those said to "
                    "be lost are blocks that the program still holds\n",
                    *r->unsearched ? r->unsearched : "unknown reason");
    if (r->dropped)
        tt_text_add(out,
                    "%llu calls or units of a run were not followed (signal handlers, full "
                    "tables)\n",
                    (unsigned long long)r->dropped);
    tt_text_add(out, "a run without a fault takes %s\n", tt_text_duration(usual, r->usual_seconds));
}

static void put_text(const struct tt_faults *f, struct tt_text *out)
{
    size_t max = f->input->max ? f->input->max : MOST_WRITTEN;
    put_head(f, out);
    put_losses(f, TT_FAULT_LOST, "LOST WHEN A CALL FAILS", max, out);
    put_deaths(f, max, out);
    put_losses(
        f, TT_FAULT_LEFT,
        "LEFT WHEN THE PROGRAM GAVE UP (no loss by itself: what it would have released later "
        "is among it)",
        max, out);
    size_t kept = 0;
    for (size_t i = 0; i < f->losses.len; i++)
        kept += f->losses.data[i].weight == TT_FAULT_KEPT;
    if (kept)
        tt_text_add(out,
                    "\nHeap blocks that something still points to, more than without the fault: "
                    "%zu places, see the JSON\n",
                    kept);
}

int tt_report_faults(const char *format, const struct tt_report_faults *input, struct tt_text *out,
                     struct tt_error *err)
{
    struct tt_faults f = {.input = input, .r = input->result};
    int code = open_symbols(&f, err);
    if (!code)
        code = fold(&f);
    if (!code) {
        if (strcmp(format, "json") == 0)
            code = tt_faults_json(&f, out);
        else
            put_text(&f, out);
    }
    if (!code && out->failed)
        code = -ENOMEM;
    if (f.symbols)
        tt_symbol_close(f.symbols);
    tt_vec_free(&f.losses);
    tt_vec_free(&f.deaths);
    return code ? tt_error_set(err, code, "out of memory") : 0;
}
