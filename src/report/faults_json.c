/* SPDX-License-Identifier: Apache-2.0 */
/* "telltale.inject/1": what a campaign of faults found, for programs. Keys are only ever added
 * (docs/inject.md describes each). Start: tt_faults_json. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "report/faults_internal.h"
#include "report/json.h"

static json_t *site_of(const struct tt_faults *f, uint32_t site)
{
    struct tt_symbol_frame *frames = NULL;
    size_t n = 0;
    json_t *list = json_array();
    if (tt_faults_frames(f, site, TT_FAULT_DEPTH, &frames, &n) == 0)
        for (size_t i = 0; i < n; i++)
            json_array_append_new(list, tt_json_frame(&frames[i]));
    free(frames);
    return json_pack("{so}", "frames", list);
}

static json_t *hash_of(const struct tt_faults *f, uint32_t site)
{
    char text[24];
    snprintf(text, sizeof text, "%016" PRIx64, f->r->world.sites.data[site].hash);
    return json_string(text);
}

static json_t *call_of(const struct tt_faults *f, uint32_t site)
{
    return json_string(tt_fault_call_name(f->r->world.sites.data[site].call));
}

static json_t *fault_of(const struct tt_faults *f, const struct tt_faults_cause *c)
{
    json_t *errors = json_array(), *calls = json_array();
    for (size_t i = 0; i < c->n_errors; i++)
        json_array_append_new(errors, json_string(tt_fault_error_name(c->errors[i])));
    for (size_t i = 0; i < c->n_nth; i++)
        json_array_append_new(calls, json_integer(c->nth[i]));
    return json_pack("{so so so so ss so}", "call", call_of(f, c->site), "stack",
                     hash_of(f, c->site), "errors", errors, "nth", calls, "program",
                     tt_faults_outcome(c->outcome), "site", site_of(f, c->site));
}

static json_t *losses_of(const struct tt_faults *f, unsigned weight, const char *verdict)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->losses.len; i++) {
        const struct tt_faults_loss *l = &f->losses.data[i];
        char id[48];
        if (l->weight != weight)
            continue;
        snprintf(id, sizeof id, "%08" PRIx64 "-%08" PRIx64,
                 f->r->world.sites.data[l->cause.site].hash >> 32,
                 f->r->world.sites.data[l->site].hash >> 32);
        bool sized = l->kind == TT_FAULT_HEAP || l->kind == TT_FAULT_MAPPING;
        json_array_append_new(list,
                              json_pack("{ss ss so so so s{sI so} so}", "id", id, "resource",
                                        tt_fault_kind_name(l->kind), "verdict",
                                        verdict ? json_string(verdict) : json_null(), "call",
                                        call_of(f, l->site), "site", site_of(f, l->site), "lost",
                                        "units", (json_int_t)l->units, "bytes",
                                        sized ? json_integer((json_int_t)l->bytes) : json_null(),
                                        "fault", fault_of(f, &l->cause)));
    }
    return list;
}

static json_t *deaths_of(const struct tt_faults *f)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->deaths.len; i++) {
        const struct tt_faults_cause *c = &f->deaths.data[i];
        bool died = c->outcome == TT_FAULT_DIED;
        json_array_append_new(list,
                              json_pack("{so so}", "signal",
                                        died ? json_integer(WTERMSIG(c->status)) : json_null(),
                                        "fault", fault_of(f, c)));
    }
    return list;
}

/* Every fault, in the order in which they are tried. */
static json_t *trials_of(const struct tt_faults *f)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->r->trials.len; i++) {
        const struct tt_fault_trial *t = &f->r->trials.data[i];
        json_array_append_new(
            list, json_pack("{so so ss sI ss}", "stack", hash_of(f, t->site), "call",
                            call_of(f, t->site), "error", tt_fault_error_name(t->code), "nth",
                            (json_int_t)t->nth, "program", tt_faults_outcome(t->outcome)));
    }
    return list;
}

int tt_faults_json(const struct tt_faults *f, struct tt_text *out)
{
    const struct tt_fault_result *r = f->r;
    json_t *command = json_array();
    for (size_t i = 0; f->input->argv[i]; i++)
        json_array_append_new(command, tt_json_text(f->input->argv[i]));
    json_t *root = json_pack(
        "{ss s{ss so} s{so so} s{so so sI} s{sI sI sI sI sI sI sI sI sI sI} s{sb so} sI sI so so "
        "so "
        "so so}",
        "schema", "telltale.inject/1", "tool", "name", "telltale", "version",
        tt_json_text(f->input->tool_version), "target", "exe", tt_json_text(r->exe), "command",
        command, "runs", "seconds", tt_json_number(r->seconds), "usual_seconds",
        tt_json_number(r->usual_seconds), "usual_status", (json_int_t)r->usual_status, "faults",
        "stacks", (json_int_t)r->sites, "planned", (json_int_t)r->trials.len, "tried",
        (json_int_t)r->tried + (json_int_t)r->tried_before, "tried_before",
        (json_int_t)r->tried_before, "not_tried", (json_int_t)r->left_over, "unreached",
        (json_int_t)f->outcomes[TT_FAULT_UNREACHED], "went_on",
        (json_int_t)f->outcomes[TT_FAULT_WENT_ON], "gave_up",
        (json_int_t)f->outcomes[TT_FAULT_GAVE_UP], "died", (json_int_t)f->outcomes[TT_FAULT_DIED],
        "hung", (json_int_t)f->outcomes[TT_FAULT_HUNG], "searched", "heap", (int)r->searched, "why",
        tt_json_text(r->searched ? NULL : r->unsearched), "unsteady_stacks",
        (json_int_t)r->unsteady, "dropped", (json_int_t)r->dropped, "findings",
        losses_of(f, TT_FAULT_LOST, "leak-lost"), "deaths", deaths_of(f), "left",
        losses_of(f, TT_FAULT_LEFT, NULL), "kept", losses_of(f, TT_FAULT_KEPT, NULL), "trials",
        trials_of(f));
    return root ? tt_json_dump(root, out) : -ENOMEM;
}
