/* SPDX-License-Identifier: Apache-2.0 */
/* The table of `telltale list`: what lives now, site by site, before any judgement.
 * Start: tt_report_sites. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/json.h"
#include "report/phrase.h"
#include "report/stack.h"

enum { PLACE_WIDTH = 56 };

static struct tt_symbol_frame frame_of(const struct tt_report_site *site)
{
    return (struct tt_symbol_frame){.function = tt_phrase_text(site->function),
                                    .module = tt_phrase_text(site->module),
                                    .file = tt_phrase_text(site->file),
                                    .line = site->line,
                                    .offset = site->offset};
}

static void write_lost(const struct tt_report_sites *sites, struct tt_text *out)
{
    tt_text_add(out, "\n%12s %12s %12s %12s  %s\n", "LOST", "BYTES", "ROOTS", "NO SITE", "SHAPE");
    for (size_t i = 0; i < sites->n_lost; i++) {
        const struct tt_report_lost *lost = &sites->lost[i];
        tt_phrase units, bytes, roots, unknown;
        char *shape = tt_article_clean(lost->shape);
        tt_text_add(out, "%12s %12s %12s %12s  %s\n", tt_phrase_number(units, (double)lost->units),
                    tt_phrase_size(bytes, (double)lost->bytes),
                    tt_phrase_number(roots, (double)lost->roots),
                    tt_phrase_number(unknown, (double)lost->unknown), tt_phrase_text(shape));
        free(shape);
    }
}

static void write_text(const struct tt_report_sites *sites, struct tt_text *out)
{
    tt_text_add(out, "%12s %12s %12s %10s  %-8s %s\n", "LIVE", "BYTES", "BIRTHS", "OLDEST",
                "RESOURCE", "ACQUIRED IN");
    for (size_t i = 0; i < sites->n; i++) {
        const struct tt_report_site *site = &sites->list[i];
        const char *about = site->estimated ? "~" : "";
        struct tt_symbol_frame frame = frame_of(site);
        struct tt_text name = {0}, place = {0};
        char *known = tt_article_clean(site->place ? site->place : "");
        tt_phrase live, bytes, births;
        char live_cell[100], bytes_cell[100] = "-", births_cell[100], age[32] = "-", duration[32];
        if (isfinite(site->oldest) && site->oldest >= 0)
            snprintf(age, sizeof age, "%s",
                     site->oldest < 0.125 ? "0 s" : tt_text_duration(duration, site->oldest));
        snprintf(live_cell, sizeof live_cell, "%s%s", about,
                 tt_phrase_number(live, (double)site->live));
        if (tt_phrase_sized(site->resource))
            snprintf(bytes_cell, sizeof bytes_cell, "%s%s", about,
                     tt_phrase_size(bytes, site->live_bytes));
        snprintf(births_cell, sizeof births_cell, "%s%s", about,
                 tt_phrase_number(births, (double)site->births));
        if (*frame.function || *frame.module)
            tt_stack_name(&name, &frame, PLACE_WIDTH);
        else if (site->place && *site->place)
            tt_text_add(&name, "(%s)", tt_phrase_text(known));
        else
            tt_text_add(&name, "(unknown, site %lld)", (long long)site->site);
        tt_stack_place(&place, &frame);
        char *resource = tt_article_clean(site->resource);
        char *where = tt_article_clean(place.data);
        tt_text_add(out, "%12s %12s %12s %10s  %-8s %s%s%s\n", live_cell, bytes_cell, births_cell,
                    age, tt_phrase_text(resource), tt_phrase_text(name.data), place.len ? " " : "",
                    tt_phrase_text(where));
        out->failed |= name.failed;
        free(resource);
        free(where);
        free(known);
        tt_text_free(&name);
        tt_text_free(&place);
    }
    tt_phrase more;
    if (!sites->n)
        tt_text_add(out, "no sites: nothing was acquired while recording\n");
    if (sites->more)
        tt_text_add(out, "and %s more sites\n", tt_phrase_number(more, (double)sites->more));
    if (sites->n_lost)
        write_lost(sites, out);
}

static int write_json(const struct tt_report_sites *sites, struct tt_text *out)
{
    json_t *list = json_array();
    for (size_t i = 0; i < sites->n; i++) {
        const struct tt_report_site *site = &sites->list[i];
        bool sized = tt_phrase_sized(site->resource);
        json_array_append_new(
            list,
            json_pack(
                "{so so so so so so so so so so so so so so sb}", "process",
                tt_json_number((double)site->process), "site", tt_json_number((double)site->site),
                "resource", tt_json_text(site->resource), "live",
                tt_json_number((double)site->live), "bytes",
                sized ? tt_json_number(site->live_bytes) : json_null(), "births",
                tt_json_number((double)site->births), "oldest_seconds",
                tt_json_number(site->oldest), "youngest_seconds", tt_json_number(site->youngest),
                "function", tt_json_text(site->function), "module", tt_json_text(site->module),
                "file", tt_json_text(site->file), "line",
                site->line ? json_integer((json_int_t)site->line) : json_null(), "size",
                sized ? json_pack("[II]", (json_int_t)site->size_min, (json_int_t)site->size_max)
                      : json_null(),
                "place", tt_json_text(site->place), "estimated", (int)site->estimated));
    }
    json_t *lost = json_array();
    for (size_t i = 0; i < sites->n_lost; i++) {
        const struct tt_report_lost *l = &sites->lost[i];
        json_array_append_new(
            lost,
            json_pack("{so so so so so so}", "process", tt_json_number((double)l->process), "units",
                      tt_json_number((double)l->units), "bytes", tt_json_number((double)l->bytes),
                      "roots", tt_json_number((double)l->roots), "without_site",
                      tt_json_number((double)l->unknown), "shape", tt_json_text(l->shape)));
    }
    return tt_json_dump(json_pack("{ss so so so so}", "schema", "telltale.sites/1", "seconds",
                                  tt_json_number(sites->seconds), "sites", list, "more",
                                  tt_json_number((double)sites->more), "lost", lost),
                        out);
}

int tt_report_sites(const char *format, const struct tt_report_sites *sites, struct tt_text *out,
                    struct tt_error *err)
{
    int rc = 0;
    if (!strcmp(format, "json"))
        rc = write_json(sites, out);
    else if (!strcmp(format, "text"))
        write_text(sites, out);
    else
        return tt_error_set(err, -EINVAL, "unknown format \"%s\": one of text, json", format);
    if (rc || out->failed)
        return tt_error_set(err, -ENOMEM, "out of memory listing %zu sites", sites->n);
    return 0;
}
