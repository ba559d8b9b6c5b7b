/* SPDX-License-Identifier: Apache-2.0 */
/* From what was read to rows. A write is one transaction and one epoch; it puts only what changed.
 * When there are too many epochs or samples they are thinned to an even spacing, which cumulative
 * counts allow. The sites' rows are rows_site.c's, what the session says of itself rows_meta.c's.
 * Start: tt_rows_write. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "record/internal.h"

#define EPOCHS_KEPT 240u
#define EPOCHS_LEAST 24u

/* What the counts of tape.h and of the recorder are called in table dropped. */
enum {
    LOST_RELEASES = TT_DROP_KINDS,
    LOST_AGES,
    LOST_PATHS,
    LOST_BIG,
    LOST_SITES,
    LOST_LOOK,
    COPIES_MEMORY,
    COPIES_SLOW,
    COPIES_OVER,
    CLOSED_UNSEEN,
    OPENED_UNSEEN,
    OPEN_BEFORE,
    PLACES_LOST
};
static const char *const drop_names[TT_DROP_KINDS + 16] = {
    [TT_DROP_SITES] = "births at an unknown stack: the site table was full",
    [TT_DROP_FRAMES] = "births at an unknown stack: the frame store was full",
    [TT_DROP_REGIONS] = "births not followed: no shadow memory left",
    [TT_DROP_BIG] = "sizes of blocks of 1 MiB and more not kept: their table was full",
    [TT_DROP_RING] = "release samples lost: their ring was full",
    [TT_DROP_THREADS] = "threads counted through the shared slot: slots used up",
    [TT_DROP_NESTED] = "births at an unknown stack: in a signal handler inside the agent",
    [TT_DROP_CUT_DEPTH] = "stacks cut at the deepest level kept",
    [TT_DROP_CUT_UNWIND] = "stacks that end early: no unwind information",
    [TT_DROP_ROWS] = "unwind rows computed again: their cache was full",
    [TT_DROP_CHILDREN] = "forked children without a recording",
    [TT_DROP_SAMPLES] = "units not sampled: the sample region was full",
    [TT_DROP_FOREIGN_FREE] = "releases of blocks born before the recording or not followed",
    [LOST_RELEASES] = "release samples unreadable",
    [LOST_AGES] = "release samples without their exact age: too many different ages at a site",
    [LOST_PATHS] = "release samples without their path: too many different paths at a site",
    [LOST_BIG] = "live blocks of 1 MiB and more without their size",
    [LOST_SITES] = "sites summed in site 0: too many for rows of their own",
    [COPIES_MEMORY] = "snapshots not taken: too little memory for a copy of the process",
    [COPIES_SLOW] = "snapshots not taken: the pause would be beyond the budget (--pause-budget)",
    [COPIES_OVER] = "snapshots whose pause was beyond the budget (--pause-budget)",
    [TT_DROP_HELD] = "units not followed: the table of held units was full",
    [TT_DROP_OWNERS] = "owners not told apart: their table was full",
    [TT_DROP_UNSEEN] = "units released by a way that is not watched: their value came anew",
    [TT_DROP_NOT_HELD] = "releases of what was not held: older, or acquired by a way not watched",
    [CLOSED_UNSEEN] = "corrected: units released by a way that is not watched",
    [OPENED_UNSEEN] = "corrected: descriptors opened by a way that is not watched",
    [OPEN_BEFORE] = "descriptors that were open before the recording began",
    [PLACES_LOST] = "descriptors without a place: too many kinds of them",
    [LOST_LOOK] = "units by which the last look and the counts differ",
};

/* ---- an image ---- */

static void put_operations(struct tt_recorder *rec, struct tt_image *image, bool last)
{
    for (size_t i = 0; i < image->operations.len; i++) {
        struct tt_operation *op = &image->operations.data[i];
        int64_t id = (int64_t)i + 1;
        if (!op->row_written)
            tt_session_put_operation(rec->writer, &(struct tt_session_operation){
                                                      .process = image->id,
                                                      .id = id,
                                                      .name = op->name,
                                                      .function = op->function,
                                                      .address = op->slot >= 0 ? op->address : 0,
                                                      .source = op->source,
                                                      .since_ns = op->since_ns,
                                                  });
        op->row_written = true;
        if (op->slot < 0 ||
            (op->wrote_epoch && op->count == op->wrote && !(last && op->wrote_epoch != rec->epoch)))
            continue;
        tt_session_put_count(rec->writer, image->id, id, rec->epoch, op->count);
        op->wrote = op->count;
        op->wrote_epoch = rec->epoch;
    }
}

static void put_modules(struct tt_recorder *rec, struct tt_image *image)
{
    for (size_t i = 0; i < image->modules.len; i++) {
        struct tt_module *module = &image->modules.data[i];
        module->row.process = image->id;
        if (!module->written)
            tt_session_put_module(rec->writer, &module->row);
        else if (module->row.until_ns && !module->ended_written)
            tt_session_end_module(rec->writer, &module->row);
        module->written = true;
        module->ended_written = module->row.until_ns != 0;
    }
}

static void put_figures(struct tt_recorder *rec, struct tt_image *image)
{
    struct tt_proc_figures f;
    if (!image->alive || !image->visible || tt_proc_figures_read((pid_t)image->pid, &f))
        return;
    int64_t live = 0;
    if (f.vm_size > (int64_t)image->tape_mapped) /* the target's own address space */
        f.vm_size -= (int64_t)image->tape_mapped;
    for (size_t i = 0; i < image->tape.sites.len; i++) {
        const struct tt_totals *now = &image->tape.sites.data[i].now;
        if (image->tape.sites.data[i].kind == TT_KIND_HEAP && now->birth_bytes > now->death_bytes)
            live += (int64_t)(now->birth_bytes - now->death_bytes);
    }
    tt_session_put_proc(rec->writer, image->id,
                        &(struct tt_session_proc){.epoch = rec->epoch,
                                                  .rss_anon = f.rss_anon,
                                                  .rss_file = f.rss_file,
                                                  .heap_live = live,
                                                  .heap_held = image->heap_held,
                                                  .fds = f.fds,
                                                  .threads = f.threads,
                                                  .vm_size = f.vm_size,
                                                  .cpu_ms = f.cpu_ms});
    image->heap_held = -1; /* as of that look; none until the next */
}

struct limit_arg {
    struct tt_recorder *rec;
    int64_t process;
};

static void put_limit(void *arg, const char *name, int64_t value)
{
    struct limit_arg *to = arg;
    tt_session_put_limit(to->rec->writer, &(struct tt_session_limit){to->process, name, value});
}

/* "limit of port": what --handle said. */
static void put_declared_limits(struct limit_arg *to)
{
    const struct tt_record_options *o = to->rec->options;
    for (size_t i = 0; i < o->n_handles; i++) {
        char name[64];
        snprintf(name, sizeof name, "limit of %s", o->handles[i].name);
        if (o->handles[i].limit > 0)
            put_limit(to, name, (int64_t)o->handles[i].limit);
    }
}

static void put_dropped(struct tt_recorder *rec, struct tt_image *image, uint64_t summed)
{
    uint64_t counts[TT_DROP_KINDS + 16] = {0};
    memcpy(counts, image->tape.head.dropped, sizeof image->tape.head.dropped);
    counts[LOST_RELEASES] = image->tape.lost_releases;
    counts[LOST_AGES] = image->tape.lost_ages;
    counts[LOST_PATHS] = image->tape.lost_paths;
    counts[LOST_BIG] = image->look.big_lost;
    counts[LOST_SITES] = summed;
    counts[LOST_LOOK] = image->has_look && image->look_row.final ? image->units_off : 0;
    counts[CLOSED_UNSEEN] = image->held.closed_unseen;
    counts[OPENED_UNSEEN] = image->held.opened_unseen;
    counts[OPEN_BEFORE] = image->held.open_before;
    counts[PLACES_LOST] = image->held.lost_places;
    counts[COPIES_MEMORY] = image->copies.no_memory;
    counts[COPIES_SLOW] = image->copies.too_slow;
    counts[COPIES_OVER] = image->copies.over;
    if (image->copies.failed) {
        char what[240];
        snprintf(what, sizeof what, "snapshots not taken: %s", image->copies.failed_why);
        tt_session_put_dropped(rec->writer,
                               &(struct tt_session_dropped){image->id, what, image->copies.failed});
    }
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (!drop_names[i] || counts[i] == image->dropped_wrote[i])
            continue;
        uint64_t count = counts[i] <= 1ULL << 60 ? counts[i] : 1ULL << 60;
        tt_session_put_dropped(rec->writer,
                               &(struct tt_session_dropped){image->id, drop_names[i], count});
        image->dropped_wrote[i] = counts[i];
    }
}

static void put_image(struct tt_recorder *rec, struct tt_image *image, bool final)
{
    bool last = final || !image->alive;
    uint64_t summed = 0;
    put_modules(rec, image);
    if (image->row_changed || last)
        tt_session_put_process(rec->writer, &image->row);
    image->row_changed = false;
    if (!image->limits_written && image->alive) {
        struct limit_arg arg = {rec, image->id};
        tt_proc_limits((pid_t)image->pid, put_limit, &arg);
        tt_resource_limits((pid_t)image->pid, put_limit, &arg);
        put_declared_limits(&arg);
        image->limits_written = true;
    }
    tt_rows_sites(rec, image, last, &summed);
    tt_rows_releases(rec, image);
    tt_rows_survivors(rec, image);
    put_operations(rec, image, last);
    put_figures(rec, image);
    tt_held_put(rec, image, last);
    tt_stale_put(rec, image);
    image->attach.process = image->id;
    if (image->attached && image->attach_changed)
        tt_session_put_attach(rec->writer, &image->attach);
    image->attach_changed = false;
    put_dropped(rec, image, summed);
}

/* ---- thinning ---- */

/* Keeps the first and last epoch and between them one in each stretch of the same length. */
static void thin(struct tt_recorder *rec)
{
    size_t n = rec->epochs.len, kept = 0, merged = 0, target = n / 2;
    if (target > EPOCHS_KEPT)
        target = EPOCHS_KEPT;
    if (target < EPOCHS_LEAST)
        target = EPOCHS_LEAST;
    if (n <= target)
        return;
    struct tt_session_epoch *e = rec->epochs.data;
    uint64_t stretch = (e[n - 1].at_ns - e[0].at_ns) / target;
    int64_t *from = malloc(2 * n * sizeof *from), *to = from ? from + n : NULL;
    if (!from)
        return;
    /* from the back, so that each epoch taken out knows the next one that is kept */
    int64_t next = e[n - 1].id;
    uint64_t next_ns = e[n - 1].at_ns;
    bool *keep = calloc(n, sizeof *keep);
    for (size_t i = n; keep && i-- > 0;) {
        keep[i] = i == 0 || i == n - 1 || next_ns - e[i].at_ns >= stretch;
        if (keep[i]) {
            next = e[i].id;
            next_ns = e[i].at_ns;
        } else {
            from[merged] = e[i].id;
            to[merged++] = next;
        }
    }
    if (keep && merged && tt_session_merge_epochs(rec->writer, from, to, merged) == 0) {
        for (size_t i = 0; i < n; i++)
            if (keep[i])
                e[kept++] = e[i];
        rec->epochs.len = kept;
    }
    free(keep);
    free(from);
    rec->sample_rows = tt_session_sample_rows(rec->writer);
}

/* ---- writing ---- */

void tt_rows_write(struct tt_recorder *rec, uint64_t now_ns, bool final)
{
    struct tt_session_writer *w = rec->writer;
    if (!w || tt_session_failed(w, NULL))
        return;
    rec->epoch++;
    tt_session_begin(w);
    tt_session_put_epoch(w, rec->epoch, now_ns);
    tt_session_put_metaf(w, "ended_ns", "%llu", (unsigned long long)now_ns);
    for (size_t i = 0; i < rec->images.len; i++)
        if (rec->images.data[i]->id)
            put_image(rec, rec->images.data[i], final);
    if (rec->images_lost)
        tt_session_put_dropped(w, &(struct tt_session_dropped){
                                      0, "processes not recorded: too many", rec->images_lost});
    struct tt_session_epoch epoch = {rec->epoch, now_ns};
    if (tt_vec_push(&rec->epochs, epoch) == 0 &&
        (rec->epochs.len > TT_RECORD_EPOCHS ||
         (rec->sample_rows > TT_RECORD_SAMPLE_ROWS && rec->epochs.len > 2 * (size_t)EPOCHS_LEAST)))
        thin(rec);
    tt_session_commit(w);
}

void tt_rows_finish(struct tt_recorder *rec, uint64_t now_ns, const char *outcome)
{
    struct tt_session_writer *w = rec->writer;
    if (!w)
        return;
    tt_rows_write(rec, now_ns, true);
    tt_session_begin(w);
    tt_session_put_meta(w, "outcome", outcome);
    if (rec->child && rec->child_ended)
        tt_session_put_metaf(w, "exit_status", "%d", tt_record_status(rec->result->status));
    tt_session_commit(w);
    tt_session_finish(w, true, &rec->trouble);
    rec->writer = NULL;
}
