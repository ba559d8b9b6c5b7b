/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of an image's sites: what was born and died there, stacks, survivors of the last look, and
 * where units are released. Sites beyond a number are summed in site 0 and survivors come coarsened
 * (look.c), so that the session stays small; only what changed is written.
 * Start: tt_rows_sites. */
#include <string.h>

#include "record/internal.h"

#define SURE_SITES 8192u /* below this number every site gets rows; above, only growing ones */

/* Whether the site gets rows of its own. Below SURE_SITES all do; then those with live units, as
 * long as there is room. Once chosen, always. */
static bool choose(struct tt_image *image, uint32_t id)
{
    struct tt_site *site = &image->tape.sites.data[id];
    if (site->chosen || id == 0)
        return site->chosen = true;
    if (!site->ready || (site->flags & TT_SITE_RELEASE) || !site->now.births)
        return false;
    if (image->chosen >= TT_RECORD_SITES ||
        (image->chosen >= SURE_SITES && site->now.births <= site->now.deaths + 1))
        return false;
    image->chosen++;
    return site->chosen = true;
}

static void put_stack(struct tt_recorder *rec, struct tt_image *image, struct tt_site *site,
                      uint32_t id)
{
    uint64_t frames[TT_TAPE_DEPTH];
    if (site->stack)
        return;
    size_t n = tt_tape_read_stack(&image->tape, site, frames);
    site->stack = true;
    if (n)
        tt_session_put_stack(rec->writer, image->id, id, (site->flags & TT_SITE_CUT) != 0, frames,
                             n);
}

static void put_sample(struct tt_recorder *rec, struct tt_image *image, uint32_t id,
                       const struct tt_totals *totals, bool last)
{
    struct tt_site *site = &image->tape.sites.data[id];
    struct tt_totals row = *totals, *wrote = &site->wrote;
    /* readings amid changes may be off by a few: rows never run backwards nor below zero live */
    if (row.births < wrote->births)
        row.births = wrote->births;
    if (row.birth_bytes < wrote->birth_bytes)
        row.birth_bytes = wrote->birth_bytes;
    if (row.deaths > row.births)
        row.deaths = row.births;
    if (row.deaths < wrote->deaths)
        row.deaths = wrote->deaths;
    if (row.death_bytes > row.birth_bytes)
        row.death_bytes = row.birth_bytes;
    if (row.death_bytes < wrote->death_bytes)
        row.death_bytes = wrote->death_bytes;
    if (memcmp(&row, wrote, sizeof row) == 0 && !(last && site->wrote_epoch != rec->epoch))
        return;
    tt_session_put_sample(rec->writer, image->id, id,
                          &(struct tt_session_sample){.epoch = rec->epoch,
                                                      .births = row.births,
                                                      .birth_bytes = row.birth_bytes,
                                                      .deaths = row.deaths,
                                                      .death_bytes = row.death_bytes});
    rec->sample_rows++;
    *wrote = row;
    site->wrote_epoch = rec->epoch;
}

static void put_site(struct tt_recorder *rec, struct tt_image *image, uint32_t id,
                     const struct tt_totals *totals, bool last)
{
    struct tt_site *site = &image->tape.sites.data[id];
    bool changed = memcmp(totals, &site->wrote, sizeof *totals) != 0;
    if (!changed && !last)
        return;
    if (!site->wrote_epoch || site->size_min != site->wrote_min ||
        site->size_max != site->wrote_max) {
        put_stack(rec, image, site, id);
        tt_session_put_site(rec->writer, &(struct tt_session_site){
                                             .process = image->id,
                                             .id = id,
                                             .resource = tt_record_resource(rec, site->kind),
                                             .stack = site->depth ? id : 0,
                                             .thin = site->thin,
                                             .size_min = site->size_min,
                                             .size_max = site->size_max,
                                         });
        site->wrote_min = site->size_min;
        site->wrote_max = site->size_max;
    }
    if (changed) {
        tt_tape_read_bins(&image->tape, id);
        bool ghosts = tt_map_get(&image->held.ghosts, id) != NULL;
        for (uint32_t bin = 0; (site->bins_changed || ghosts) && site->bins && bin < TT_TAPE_BINS;
             bin++) {
            const uint64_t *more = tt_map_get(&image->held.ghost_bin, (uint64_t)id << 8 | bin);
            uint64_t count = site->bins[bin] + (more ? *more : 0);
            if (count)
                tt_session_put_death(rec->writer, image->id, id, bin, count);
        }
        site->bins_changed = false;
    }
    put_sample(rec, image, id, totals, last);
}

void tt_rows_sites(struct tt_recorder *rec, struct tt_image *image, bool last, uint64_t *summed)
{
    struct tt_tape *tape = &image->tape;
    if (!tape->sites.len)
        return;
    struct tt_totals rest = tape->sites.data[0].now;
    *summed = 0;
    for (uint32_t id = 1; id < tape->sites.len; id++) {
        struct tt_totals now = tape->sites.data[id].now;
        tt_held_overlay(&image->held, id, &now);
        if (choose(image, id)) {
            put_site(rec, image, id, &now, last);
        } else if (now.births) {
            ++*summed;
            rest.births += now.births;
            rest.birth_bytes += now.birth_bytes;
            rest.deaths += now.deaths;
            rest.death_bytes += now.death_bytes;
        }
    }
    choose(image, 0);
    if (rest.births)
        put_site(rec, image, 0, &rest, last);
}

void tt_rows_releases(struct tt_recorder *rec, struct tt_image *image)
{
    struct tt_tape *tape = &image->tape;
    for (size_t i = 0; i < tape->releases.len; i++) {
        struct tt_release *r = &tape->releases.data[i];
        if (!r->changed || !tape->sites.data[r->site].chosen)
            continue;
        struct tt_site *by = &tape->sites.data[r->by];
        if (r->by && by->ready)
            put_stack(rec, image, by, r->by);
        tt_session_put_release(rec->writer, image->id,
                               &(struct tt_session_release){r->site, by->depth ? r->by : 0,
                                                            r->samples, r->weight, r->last_ns});
        r->changed = false;
    }
    for (size_t i = 0; i < tape->ages.len; i++) {
        struct tt_release_age *a = &tape->ages.data[i];
        if (!a->changed || !tape->sites.data[a->site].chosen)
            continue;
        tt_session_put_release_age(
            rec->writer, image->id,
            &(struct tt_session_release_age){a->site, a->age, a->samples, a->weight});
        a->changed = false;
    }
}

void tt_rows_survivors(struct tt_recorder *rec, struct tt_image *image)
{
    struct tt_session_writer *w = rec->writer;
    if (!image->has_look || image->look_written)
        return;
    tt_session_clear_survivors(w, image->id);
    for (uint32_t id = 0; id < image->look.sites.len; id++) {
        const struct tt_unit_set *set = &image->look.sites.data[id];
        if (id >= image->tape.sites.len || !image->tape.sites.data[id].chosen)
            continue; /* of summed sites only the counts are kept */
        for (uint32_t i = 0; i < set->cap; i++)
            if (set->slots[i].count)
                tt_session_put_survivor(w, image->id,
                                        &(struct tt_session_survivor){id, set->slots[i].size,
                                                                      set->slots[i].tick,
                                                                      set->slots[i].count});
    }
    tt_held_put_look(rec, image);
    tt_session_put_look(w, image->id, &image->look_row);
    image->look_written = true;
}
