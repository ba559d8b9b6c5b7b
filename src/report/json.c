/* SPDX-License-Identifier: Apache-2.0 */
/* "telltale.findings/1": everything in the findings, for programs. Keys are only ever added
 * (docs/findings.md describes each). What is unknown is null, never NaN and never 0 in its place.
 * Start: tt_report_write_json. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "report/json.h"
#include "report/phrase.h"

json_t *tt_json_number(double x)
{
    if (!isfinite(x))
        return json_null();
    if (x == floor(x) && fabs(x) < 9007199254740992.0) /* 2^53: exact as a double */
        return json_integer((json_int_t)x);
    return json_real(x);
}

json_t *tt_json_text(const char *text)
{
    if (!text || !*text)
        return json_null();
    char *clean = tt_article_clean(text); /* jansson refuses what is not UTF-8 */
    json_t *string = clean ? json_string_nocheck(clean) : NULL;
    free(clean);
    return string;
}

static json_t *pair(double lo, double hi)
{
    if (!isfinite(lo) || !isfinite(hi))
        return json_null();
    return json_pack("[oo]", tt_json_number(lo), tt_json_number(hi));
}

/* For values where 0 means unknown. */
static json_t *positive(double x)
{
    return x > 0 ? tt_json_number(x) : json_null();
}

json_t *tt_json_frame(const struct tt_symbol_frame *frame)
{
    return json_pack("{so so so so sb so}", "function", tt_json_text(frame->function), "module",
                     tt_json_text(frame->module), "file", tt_json_text(frame->file), "line",
                     positive(frame->line), "inlined", (int)frame->inlined, "offset",
                     tt_json_number((double)frame->offset));
}

static json_t *frames_of(const struct tt_report_input *input, int session, int64_t process,
                         int64_t id, bool *cut)
{
    json_t *list = json_array();
    struct tt_report_stack stack = {0};
    if (input->stack && !input->stack(input->stack_arg, session, process, id, &stack))
        for (size_t i = 0; i < stack.n; i++)
            json_array_append_new(list, tt_json_frame(&stack.frames[i]));
    if (cut)
        *cut = stack.cut;
    return list;
}

static json_t *labels_of(const struct tt_report_session *session)
{
    json_t *labels = json_object();
    for (size_t i = 0; i < session->n_labels; i++) {
        char *key = tt_article_clean(session->labels[i].key);
        if (key)
            json_object_set_new_nocheck(labels, key, tt_json_text(session->labels[i].value));
        free(key);
    }
    return labels;
}

static json_t *process_object(const struct tt_report_process *process,
                              const struct tt_report_session *session)
{
    tt_phrase mtime;
    return json_pack(
        "{so so so so so so so so so so so so}", "process", tt_json_number((double)process->id),
        "pid", positive((double)process->pid), "exe", tt_json_text(process->exe), "build_id",
        tt_json_text(process->build_id), "exe_size", positive((double)process->exe_size),
        "exe_mtime", tt_json_text(tt_phrase_iso(mtime, (double)process->exe_mtime)), "cmdline",
        tt_json_text(process->cmdline), "libc", tt_json_text(process->libc), "allocator",
        tt_json_text(process->allocator), "kernel", tt_json_text(session->kernel), "machine",
        tt_json_text(session->machine), "host", tt_json_text(session->host));
}

static json_t *dropped_of(const struct tt_report_session *session)
{
    json_t *dropped = json_object();
    for (size_t i = 0; i < session->n_dropped; i++) {
        const struct tt_report_drop *drop = &session->dropped[i];
        char *what = drop->count ? tt_article_clean(drop->what) : NULL;
        if (what) {
            /* Several processes may have dropped the same kind. */
            json_int_t before = json_integer_value(json_object_get(dropped, what));
            json_object_set_new_nocheck(dropped, what,
                                        json_integer(before + (json_int_t)drop->count));
        }
        free(what);
    }
    return dropped;
}

static json_t *session_object(const struct tt_report_session *session)
{
    static const char *const roles[] = {"judged", "control", "fixed"};
    tt_phrase started;
    return json_pack("{so so so so so so sb sb so}", "seconds", tt_json_number(session->seconds),
                     "mode", tt_json_text(session->mode), "dropped", dropped_of(session), "name",
                     tt_json_text(session->name), "role", json_string(roles[session->role]),
                     "started_at",
                     tt_json_text(tt_phrase_iso(started, (double)session->started_wall)),
                     "attached", (int)session->attached, "finished", (int)!session->unfinished,
                     "labels", labels_of(session));
}

static json_t *rate_object(const struct tt_finding *f)
{
    const struct tt_rate *r = &f->rate;
    json_t *by_time = pair(r->per_second_interval.lo, r->per_second_interval.hi);
    json_t *interval = r->has_operation
                           ? pair(r->per_operation_interval.lo, r->per_operation_interval.hi)
                           : json_incref(by_time);
    bool op = r->has_operation;
    return json_pack(
        "{so so so so so so so so so so so}", "per_second", tt_json_number(r->per_second),
        "per_operation", op ? tt_json_number(r->per_operation) : json_null(), "operation",
        op ? tt_json_text(r->operation) : json_null(), "interval", interval, "per_second_interval",
        by_time, "operation_source", op ? tt_json_text(r->operation_source) : json_null(),
        "operations", op ? tt_json_number(r->operations) : json_null(), "bytes_per_operation",
        op && tt_phrase_sized(f->resource) ? tt_json_number(r->bytes_per_operation) : json_null(),
        "exact", json_boolean(op && r->exact), "intervals_held",
        op ? tt_json_number((double)r->intervals_held) : json_null(), "intervals",
        op ? tt_json_number((double)r->intervals) : json_null());
}

static json_t *law_object(const struct tt_law_text *law)
{
    if (!law->known)
        return json_null();
    json_t *points = json_array(), *terms = json_array();
    for (size_t i = 0; i < law->points.len; i++)
        json_array_append_new(
            points, json_pack("{so so so so}", "x", tt_json_number(law->points.data[i].x), "units",
                              tt_json_number(law->points.data[i].units), "operations",
                              tt_json_number(law->points.data[i].ops), "predicted",
                              tt_json_number(law->points.data[i].predicted)));
    static const char *const basis[] = {
        [TT_LAW_CONSTANT] = "constant", [TT_LAW_LINEAR] = "linear", [TT_LAW_HINGE] = "hinge"};
    for (size_t i = 0; i < law->n_terms; i++) {
        const struct tt_law_term *t = &law->terms[i];
        json_array_append_new(
            terms, json_pack("{ss so so so ss}", "basis", basis[t->basis], "covariate",
                             tt_json_text(law->covariate), "knot",
                             t->basis == TT_LAW_HINGE ? tt_json_number(t->knot) : json_null(),
                             "coefficient", tt_json_number(t->coefficient), "of",
                             law->bytes ? "bytes" : "units"));
    }
    return json_pack("{so so so sb so so}", "text", tt_json_text(law->text), "terms", terms, "r2",
                     tt_json_number(law->r2), "identifiable", (int)law->identifiable, "caveat",
                     tt_json_text(law->caveat), "points", points);
}

static json_t *forecast_object(const struct tt_finding *f, const struct tt_report_session *session)
{
    const struct tt_forecast *c = &f->forecast;
    if (!c->known)
        return json_null();
    double end = session->started_wall > 0 ? (double)session->started_wall + session->seconds : NAN;
    tt_phrase at, lo, hi;
    json_t *interval = json_null();
    if (*tt_phrase_iso(lo, end + c->interval.lo) && *tt_phrase_iso(hi, end + c->interval.hi))
        interval = json_pack("[ss]", lo, hi);
    return json_pack("{so so so so so so so}", "limit", tt_json_number(c->limit), "limit_name",
                     tt_json_text(c->limit_name), "exhausted_at",
                     tt_json_text(tt_phrase_iso(at, end + c->seconds)), "interval", interval,
                     "seconds", tt_json_number(c->seconds), "seconds_interval",
                     pair(c->interval.lo, c->interval.hi), "per_day", tt_json_number(c->per_day));
}

static json_t *evidence_list(const struct tt_finding *f)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->evidence.len; i++) {
        const struct tt_evidence *e = &f->evidence.data[i];
        json_t *object = json_pack("{so so so so}", "kind", tt_json_text(e->kind), "value",
                                   tt_json_number(e->value), "log_e", tt_json_number(e->log_e),
                                   "text", tt_json_text(e->text));
        for (size_t k = 0; k < sizeof e->figure / sizeof *e->figure && e->figure[k].key; k++)
            json_object_set_new(object, e->figure[k].key, tt_json_number(e->figure[k].value));
        json_array_append_new(list, object);
    }
    return list;
}

static json_t *release_list(const struct tt_report_input *input,
                            const struct tt_release_path *paths, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(
            list,
            json_pack("{so so so so so}", "samples", tt_json_number((double)paths[i].samples),
                      "share", tt_json_number(paths[i].share), "from", tt_json_text(paths[i].from),
                      "session", tt_json_number(paths[i].session), "frames",
                      frames_of(input, paths[i].session, paths[i].process, paths[i].stack, NULL)));
    return list;
}

static json_t *control_list(const struct tt_finding *f)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->controls.len; i++) {
        const struct tt_control *c = &f->controls.data[i];
        json_array_append_new(
            list,
            json_pack("{so so so so so so sb sb so}", "session", tt_json_number(c->session),
                      "label", tt_json_text(c->label), "operations", tt_json_number(c->operations),
                      "births", tt_json_number(c->births), "lost", tt_json_number(c->lost),
                      "expected", tt_json_number(c->expected), "exercised", (int)c->exercised,
                      "clean", (int)c->clean, "text", tt_json_text(c->text)));
    }
    return list;
}

static json_t *fix_object(const struct tt_finding *f)
{
    if (!f->fix.known)
        return json_null();
    return json_pack("{sb sb so so so so}", "fixed", (int)f->fix.fixed, "exercised",
                     (int)f->fix.exercised, "residual", tt_json_number(f->fix.residual), "exposure",
                     tt_json_number(f->fix.exposure), "build_id", tt_json_text(f->fix.build_id),
                     "text", tt_json_text(f->fix.text));
}

static json_t *series_list(const struct tt_finding *f)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->series.len; i++)
        json_array_append_new(list, pair(f->series.data[i].t, f->series.data[i].units));
    return list;
}

static void add(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

/* Both since recording began and before: a started program had nothing before, and what was there
 * before an attach is known where a copy was searched. */
static json_t *lost_object(const struct tt_finding *f, const struct tt_report_session *session)
{
    bool sized = tt_phrase_sized(f->resource), old = session->attached && f->before.looked;
    double before = old ? round(f->before.units) : 0, bytes = old ? f->before.bytes : 0;
    double since = (double)f->lost_units;
    json_t *detail = json_null();
    if (f->has_group && !session->attached)
        since = round(f->before.units), bytes = f->before.bytes;
    if (old)
        detail = json_pack("{so so so}", "units", tt_json_number(before), "bytes",
                           tt_json_number(bytes), "probability",
                           f->has_group || before < 1 ? json_null()
                                                      : tt_json_number(f->before.probability));
    return json_pack("{so so so so so so so}", "units", tt_json_number(since + before), "bytes",
                     sized ? tt_json_number(f->lost_bytes + bytes) : json_null(), "since_start",
                     tt_json_number(since), "before_attach",
                     old                 ? tt_json_number(before)
                     : session->attached ? json_null()
                                         : json_integer(0),
                     "before", detail, "cost", positive(f->lost_cost), "standard_error",
                     tt_json_number(f->estimate_sd));
}

static json_t *group_object(const struct tt_finding *f)
{
    if (!f->has_group)
        return json_null();
    char fingerprint[24];
    snprintf(fingerprint, sizeof fingerprint, "%016llx", (unsigned long long)f->group.fingerprint);
    return json_pack("{ss so so so so so}", "fingerprint", fingerprint, "shape",
                     tt_json_text(f->group.shape), "samples", tt_json_text(f->group.samples),
                     "roots", tt_json_number(f->group.roots), "hung_units",
                     tt_json_number(f->group.hung_units), "hung_bytes",
                     tt_json_number(f->group.hung_bytes));
}

static json_t *holder_list(const struct tt_holding *holders, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list,
                              json_pack("{so so so so}", "place", tt_json_text(holders[i].place),
                                        "path", tt_json_text(holders[i].path), "units",
                                        tt_json_number(holders[i].units), "bytes",
                                        tt_json_number(holders[i].bytes)));
    return list;
}

/* Text, or null where it is unknown or differs. */
static json_t *common(const char *text)
{
    return *text ? tt_json_text(text) : json_null();
}

static json_t *most_object(const struct tt_owner_fact *o)
{
    if (o->most.units < 1)
        return json_null();
    return json_pack("{so so so so}", "units", tt_json_number(o->most.units), "pid",
                     o->most.pid ? json_integer(o->most.pid) : json_null(), "exe",
                     common(o->most.exe), "address", common(o->most.address));
}

static json_t *owner_object(const struct tt_finding *f)
{
    const struct tt_owner_fact *o = &f->owner;
    if (!o->known)
        return json_null();
    return json_pack("{so so so so so so so so so so sb so}", "text", tt_json_text(o->text),
                     "units", tt_json_number(o->units), "unknown_units", tt_json_number(o->unknown),
                     "owners", tt_json_number(o->owners), "address", common(o->address), "host",
                     common(o->host), "exe", common(o->exe), "pid",
                     o->pid ? json_integer(o->pid) : json_null(), "outlived",
                     tt_json_number(o->outlived), "released", tt_json_number(o->released),
                     "outlives", (int)o->outlives, "most", most_object(o));
}

static json_t *state_object(const struct tt_finding *f)
{
    const struct tt_state_fact *s = &f->state;
    if (!s->name)
        return json_null();
    return json_pack("{ss so so so so}", "name", s->name, "units", tt_json_number(s->units), "now",
                     tt_json_number(s->now), "of", tt_json_number(s->of), "oldest_seconds",
                     tt_json_number(s->oldest));
}

static json_t *capacity_object(const struct tt_finding *f)
{
    const struct tt_capacity_fact *c = &f->capacity;
    if (!c->known)
        return json_null();
    return json_pack("{so so so so so so}", "limit", tt_json_number(c->limit), "limit_name",
                     tt_json_text(c->limit_name), "peak", tt_json_number(c->peak), "delay_seconds",
                     tt_json_number(c->delay), "plateau", tt_json_number(c->plateau),
                     "recovers_within_seconds", tt_json_number(c->delay));
}

static json_t *finding_object(const struct tt_report_input *input, const struct tt_finding *f)
{
    const struct tt_report_session *session = &input->sessions[0];
    bool sized = tt_phrase_sized(f->resource), cut;
    json_t *frames = frames_of(input, 0, f->process, f->stack, &cut);
    json_t *o = json_object();
    add(o, "id", json_integer(f->id));
    add(o, "resource", tt_json_text(f->resource));
    add(o, "verdict", tt_json_text(tt_verdict_word(f->verdict)));
    add(o, "severity", tt_json_number(f->severity));
    add(o, "site",
        json_pack("{so so so sb so so so so}", "frames", frames, "process",
                  tt_json_number((double)f->process), "id", tt_json_number((double)f->site), "cut",
                  (int)cut, "size_min", sized ? tt_json_number(f->size_min) : json_null(),
                  "size_max", sized ? tt_json_number(f->size_max) : json_null(), "unit_cost",
                  positive(f->unit_cost), "place",
                  *f->place ? tt_json_text(f->place) : json_null()));
    add(o, "owner", owner_object(f));
    add(o, "state", state_object(f));
    add(o, "capacity", capacity_object(f));
    add(o, "lost", lost_object(f, session));
    add(o, "rate", rate_object(f));
    add(o, "law", law_object(&f->law));
    add(o, "forecast", forecast_object(f, session));
    add(o, "evidence", evidence_list(f));
    add(o, "confidence", tt_json_number(f->confidence));
    add(o, "would_change_it", tt_json_text(f->would_change_it));
    add(o, "note", tt_json_text(f->note));
    add(o, "confirmed", json_boolean(f->confirmed));
    add(o, "births", tt_json_number((double)f->births));
    add(o, "deaths", tt_json_number((double)f->deaths));
    add(o, "live", tt_json_number((double)f->live));
    add(o, "horizon", tt_json_number(f->horizon));
    add(o, "horizon_short", json_boolean(f->horizon_short));
    add(o, "quiet_seconds", tt_json_number(f->quiet_seconds));
    add(o, "releases", release_list(input, f->releases.data, f->releases.len));
    add(o, "operation_releases",
        release_list(input, f->operation_releases.data, f->operation_releases.len));
    add(o, "controls", control_list(f));
    add(o, "workaround", tt_json_text(f->workaround));
    add(o, "fix", fix_object(f));
    add(o, "series", series_list(f));
    add(o, "group", group_object(f));
    add(o, "holders", holder_list(f->holders.data, f->holders.len));
    return o;
}

static json_t *snapshot_object(const struct tt_snapshot_fact *s,
                               const struct tt_report_session *session)
{
    tt_phrase at;
    double wall = session->started_wall > 0 ? (double)session->started_wall + s->at : NAN;
    return json_pack(
        "{so so so ss so so sb so so so so so so so so so so so so so so so so}", "process",
        tt_json_number((double)s->process), "at", tt_json_text(tt_phrase_iso(at, wall)), "seconds",
        tt_json_number(s->at), "source", s->core ? "core" : "copy", "taken",
        tt_json_number((double)s->taken), "allocator", tt_json_text(s->allocator), "complete",
        (int)s->complete, "stop_seconds", tt_json_number(s->stop), "clone_seconds",
        tt_json_number(s->fork), "scan_seconds", tt_json_number(s->scan), "blocks",
        tt_json_number(s->blocks), "bytes", tt_json_number(s->bytes), "lost_units",
        tt_json_number(s->lost_units), "lost_bytes", tt_json_number(s->lost_bytes), "lost_roots",
        tt_json_number(s->lost_roots), "old_units", tt_json_number(s->old_units), "unknown_units",
        tt_json_number(s->unknown_units), "unknown_bytes", tt_json_number(s->unknown_bytes),
        "unread_bytes", tt_json_number(s->unread_bytes), "doubt_bytes",
        tt_json_number(s->doubt_bytes), "tagged", tt_json_number(s->tagged), "groups_left_out",
        tt_json_number(s->groups_left_out), "holders",
        holder_list(s->holders.data, s->holders.len));
}

static json_t *attach_object(const struct tt_attach_fact *a,
                             const struct tt_report_session *session)
{
    tt_phrase at, detached;
    double start = session->started_wall > 0 ? (double)session->started_wall : NAN;
    return json_pack(
        "{so so so so so so so so so so so}", "process", tt_json_number((double)a->process), "at",
        tt_json_text(tt_phrase_iso(at, start + a->at)), "ran_seconds", positive(a->ran),
        "start_seconds", tt_json_number(a->start), "stop_seconds", tt_json_number(a->stop),
        "detached_at",
        a->detached > 0 ? tt_json_text(tt_phrase_iso(detached, start + a->detached)) : json_null(),
        "detach_stop_seconds", a->detached > 0 ? tt_json_number(a->detach_stop) : json_null(),
        "entries", tt_json_number(a->entries), "slots", tt_json_number(a->slots), "kept",
        tt_json_number(a->kept), "notes", tt_json_text(a->notes));
}

static json_t *root_object(const struct tt_report_input *input)
{
    static const struct tt_report_process nobody;
    const struct tt_findings *all = input->findings;
    const struct tt_report_session *session = &input->sessions[0];
    const struct tt_report_process *first = session->n_processes ? &session->processes[0] : &nobody;
    json_t *root = json_object(), *findings = json_array(), *others = json_array();
    json_t *processes = json_array(), *repeat = json_array(), *warnings = json_array();
    json_t *snapshots = json_array(), *attaches = json_array();
    add(root, "schema", json_string("telltale.findings/1"));
    add(root, "tool",
        json_pack("{so so}", "name", json_string("telltale"), "version",
                  tt_json_text(input->tool_version)));
    add(root, "target", process_object(first, session));
    add(root, "session", session_object(session));
    for (size_t i = 0; i < all->list.len; i++)
        json_array_append_new(findings, finding_object(input, &all->list.data[i]));
    add(root, "findings", findings);
    add(root, "leak", json_boolean(all->leak));
    add(root, "sites_looked_at", tt_json_number((double)all->sites_looked_at));
    add(root, "sites_not_listed", tt_json_number((double)all->sites_not_listed));
    add(root, "process_heap",
        json_pack("{so so so so}", "verdict",
                  tt_json_text(tt_verdict_word(all->process_heap.verdict)), "rss_slope",
                  tt_json_number(all->process_heap.rss_slope), "live_slope",
                  tt_json_number(all->process_heap.live_slope), "text",
                  tt_json_text(all->process_heap.text)));
    for (size_t i = 0; i < session->n_processes; i++)
        json_array_append_new(processes, process_object(&session->processes[i], session));
    add(root, "processes", processes);
    for (size_t i = 1; i < input->n_sessions; i++)
        json_array_append_new(others, session_object(&input->sessions[i]));
    add(root, "other_sessions", others);
    for (size_t i = 0; i < input->n_warnings; i++)
        json_array_append_new(warnings, tt_json_text(input->warnings[i]));
    add(root, "warnings", warnings);
    for (size_t i = 0; i < input->n_repeat; i++)
        json_array_append_new(repeat, tt_json_text(input->repeat[i]));
    add(root, "repeat", repeat);
    for (size_t i = 0; i < all->snapshots.len; i++)
        json_array_append_new(snapshots, snapshot_object(&all->snapshots.data[i], session));
    add(root, "snapshots", snapshots);
    for (size_t i = 0; i < all->attaches.len; i++)
        json_array_append_new(attaches, attach_object(&all->attaches.data[i], session));
    add(root, "attaches", attaches);
    return root;
}

static int append(const char *buffer, size_t size, void *data)
{
    tt_text_add_bytes(data, buffer, size);
    return 0;
}

int tt_json_dump(json_t *root, struct tt_text *out)
{
    int rc = json_dump_callback(root, append, out, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    json_decref(root);
    tt_text_add(out, "\n");
    return rc || out->failed ? -ENOMEM : 0;
}

int tt_report_write_json(const struct tt_report_input *input, struct tt_text *out)
{
    json_t *root = root_object(input);
    return root ? tt_json_dump(root, out) : -ENOMEM;
}
