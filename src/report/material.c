/* SPDX-License-Identifier: Apache-2.0 */
/* The adapter between session, symbols and report. Processes that mapped the same files at the same
 * places (fork children) share one set of symbols. Start: tt_report_material_open. */
#include "report/material.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "report/material_internal.h"
#include "report/phrase.h"
#include "session/snapshot.h"

/* ---- what a session says of itself ---- */

static int read_processes(struct tt_material_source *s, struct tt_error *err)
{
    int rc = tt_session_processes(s->from.session, &s->rows, err);
    if (rc)
        return rc;
    s->set_of = calloc(s->rows.len + 1, sizeof *s->set_of);
    if (!s->set_of)
        return tt_error_set(err, -ENOMEM, "out of memory for %zu processes", s->rows.len);
    for (size_t i = 0; i < s->rows.len; i++) {
        const struct tt_session_process *row = &s->rows.data[i];
        struct tt_report_process process = {.id = row->id,
                                            .pid = (long)row->pid,
                                            .exe = row->exe,
                                            .build_id = row->build_id,
                                            .cmdline = row->cmdline,
                                            .libc = row->libc,
                                            .allocator = row->allocator,
                                            .exe_size = row->exe_size,
                                            .exe_mtime = row->exe_mtime};
        s->set_of[i] = SIZE_MAX;
        if (tt_vec_push(&s->processes, process))
            return tt_error_set(err, -ENOMEM, "out of memory for %zu processes", s->rows.len);
    }
    return 0;
}

static int read_labels_and_losses(struct tt_material_source *s, struct tt_error *err)
{
    tt_session_label_vec labels = {0};
    tt_session_dropped_vec dropped = {0};
    int rc = tt_session_labels(s->from.session, &labels, err);
    if (!rc)
        rc = tt_session_dropped(s->from.session, -1, &dropped, err);
    for (size_t i = 0; i < labels.len && !rc; i++) {
        struct tt_report_pair pair = {labels.data[i].key, labels.data[i].value};
        rc = tt_vec_push(&s->labels, pair);
    }
    for (size_t i = 0; i < dropped.len && !rc; i++) {
        size_t same = 0; /* one line for a kind that several processes dropped */
        while (same < s->dropped.len &&
               strcmp(s->dropped.data[same].what, dropped.data[i].what) != 0)
            same++;
        struct tt_report_drop drop = {dropped.data[i].what, dropped.data[i].count};
        if (same < s->dropped.len)
            s->dropped.data[same].count += drop.count;
        else
            rc = tt_vec_push(&s->dropped, drop);
    }
    tt_vec_free(&labels);
    tt_vec_free(&dropped);
    return rc;
}

static int read_kind(struct tt_material_source *s, struct tt_error *err)
{
    tt_session_snapshot_vec rows = {0};
    int rc = tt_session_snapshots(s->from.session, -1, &rows, err);
    for (size_t i = 0; i < rows.len; i++)
        s->core |= !strcmp(rows.data[i].source, "core");
    tt_vec_free(&rows);
    return rc;
}

static int read_source(struct tt_material_source *s, struct tt_error *err)
{
    int rc = read_processes(s, err);
    if (!rc)
        rc = read_labels_and_losses(s, err);
    if (!rc)
        rc = read_kind(s, err);
    if (rc)
        return rc;
    const struct tt_session_meta *meta = tt_session_meta(s->from.session);
    s->session = (struct tt_report_session){
        .name = s->from.name,
        .role = s->from.role,
        .attached = !*meta->command, /* nothing was started, so something was found running */
        .unfinished = !meta->finished,
        .mode = meta->mode,
        .host = meta->host,
        .kernel = meta->kernel,
        .machine = meta->machine,
        .seconds = meta->ended_ns > meta->started_ns
                       ? (double)(meta->ended_ns - meta->started_ns) / 1e9
                       : 0,
        .started_wall = (int64_t)(meta->started_wall / 1000000000u),
        .horizon = meta->horizon_s,
        .processes = s->processes.data,
        .n_processes = s->processes.len,
        .labels = s->labels.data,
        .n_labels = s->labels.len,
        .dropped = s->dropped.data,
        .n_dropped = s->dropped.len,
    };
    if (!strncmp(meta->kernel, "Linux ", 6))
        s->session.kernel = meta->kernel + 6;
    /* A process has its libc's bare version, or none; the machine's name says whose it is. */
    for (size_t i = 0; i < s->processes.len; i++)
        if (strstr(meta->libc, tt_phrase_text(s->processes.data[i].libc)))
            s->processes.data[i].libc = meta->libc;
    return 0;
}

struct tt_report_material *tt_report_material_open(const struct tt_report_source *sources, size_t n,
                                                   const struct tt_symbol_options *options,
                                                   struct tt_error *err)
{
    struct tt_report_material *m = calloc(1, sizeof *m);
    if (m) {
        m->n = n;
        m->sources = calloc(n, sizeof *m->sources);
        m->view = calloc(n, sizeof *m->view);
    }
    if (!m || !m->sources || !m->view) {
        tt_report_material_close(m);
        tt_error_set(err, -ENOMEM, "out of memory for %zu sessions", n);
        return NULL;
    }
    if (options)
        m->options = *options;
    for (size_t i = 0; i < n; i++) {
        m->sources[i].from = sources[i];
        if (read_source(&m->sources[i], err)) {
            tt_report_material_close(m);
            return NULL;
        }
    }
    return m;
}

void tt_report_material_close(struct tt_report_material *m)
{
    if (!m)
        return;
    for (size_t i = 0; m->sources && i < m->n; i++) {
        tt_vec_free(&m->sources[i].rows);
        free(m->sources[i].set_of);
        tt_vec_free(&m->sources[i].processes);
        tt_vec_free(&m->sources[i].labels);
        tt_vec_free(&m->sources[i].dropped);
    }
    for (size_t i = 0; i < m->sets.len; i++)
        tt_symbol_close(m->sets.data[i].symbols);
    for (size_t i = 0; i < m->stacks.len; i++) {
        free(m->stacks.data[i].frames);
        free(m->stacks.data[i].raw.frames);
    }
    for (size_t i = 0; i < m->owned.len; i++)
        free(m->owned.data[i]);
    tt_vec_free(&m->sets);
    tt_vec_free(&m->stacks);
    tt_vec_free(&m->repeat);
    tt_vec_free(&m->warnings);
    tt_vec_free(&m->rescued);
    tt_vec_free(&m->sites);
    tt_vec_free(&m->lost);
    tt_vec_free(&m->owned);
    free(m->sources);
    free(m->view);
    free(m);
}

/* ---- names ---- */

static int add_set(struct tt_report_material *m, struct tt_material_source *s, size_t at)
{
    tt_session_module_vec rows = {0};
    int rc = tt_session_modules(s->from.session, s->rows.data[at].id, &rows, NULL);
    if (rc)
        return rc;
    struct tt_symbol_module *modules = calloc(rows.len + 1, sizeof *modules);
    uint64_t hash = rows.len;
    if (!modules)
        rc = -ENOMEM;
    for (size_t i = 0; i < rows.len && !rc; i++) {
        const struct tt_session_module *row = &rows.data[i];
        modules[i] = (struct tt_symbol_module){.path = row->path,
                                               .build_id = row->build_id,
                                               .start = row->start,
                                               .end = row->end,
                                               .file_offset = row->file_offset,
                                               .file_size = row->file_size,
                                               .mtime = row->mtime};
        hash = tt_map_mix(hash ^ row->start);
        hash = tt_map_mix(hash ^ row->end);
        hash = tt_map_mix(hash ^ row->file_offset ^ tt_map_hash(row->path, strlen(row->path)));
        hash ^= tt_map_hash(row->build_id, strlen(row->build_id));
    }
    size_t set = 0;
    while (!rc && set < m->sets.len && m->sets.data[set].hash != hash)
        set++;
    if (!rc && set == m->sets.len) {
        struct tt_material_set made = {hash, tt_symbol_open(modules, rows.len, &m->options, NULL)};
        rc = made.symbols ? tt_vec_push(&m->sets, made) : -ENOMEM;
        if (rc)
            tt_symbol_close(made.symbols);
    }
    if (!rc)
        s->set_of[at] = set;
    free(modules);
    tt_vec_free(&rows);
    return rc;
}

static struct tt_symbols *symbols_of(struct tt_report_material *m, size_t session, int64_t process)
{
    struct tt_material_source *s = &m->sources[session];
    for (size_t i = 0; i < s->rows.len; i++) {
        if (s->rows.data[i].id != process)
            continue;
        if (s->set_of[i] == SIZE_MAX && add_set(m, s, i))
            return NULL;
        return m->sets.data[s->set_of[i]].symbols;
    }
    return NULL;
}

static int note_rescued(struct tt_report_material *m, const char *module)
{
    for (size_t i = 0; i < m->rescued.len; i++)
        if (m->rescued.data[i] == module)
            return 0;
    return tt_vec_push(&m->rescued, module);
}

/* Names that were written into the session, where they say more than the files of this machine. */
static bool add_recorded(struct tt_report_material *m, size_t session, int64_t process,
                         uint64_t address, const struct tt_symbol_frame *live, size_t n_live,
                         struct tt_material_frames *list)
{
    const struct tt_symbol_frame *outer = n_live ? &live[n_live - 1] : NULL;
    if (outer && *outer->function && *outer->file)
        return false;
    tt_session_symbol_vec rows = {0};
    if (tt_session_symbols_get(m->sources[session].from.session, process, address, &rows, NULL) ||
        !rows.len) {
        tt_vec_free(&rows);
        return false;
    }
    const struct tt_session_symbol *last = &rows.data[rows.len - 1];
    bool better = *last->function && (!outer || !*outer->function || *last->file);
    for (size_t i = 0; i < rows.len && better; i++) {
        struct tt_symbol_frame frame = {rows.data[i].function, rows.data[i].module,
                                        rows.data[i].file,     rows.data[i].line,
                                        rows.data[i].inlined,  outer ? outer->offset : address};
        better = !tt_vec_push(list, frame);
    }
    tt_vec_free(&rows);
    if (better && outer && !*outer->function)
        better = !note_rescued(m, outer->module);
    return better;
}

int tt_material_names(struct tt_report_material *m, size_t session, int64_t process,
                      uint64_t address, struct tt_material_frames *list)
{
    struct tt_symbols *symbols = symbols_of(m, session, process);
    const struct tt_symbol_frame *frames = NULL;
    size_t n = 0;
    if (symbols && tt_symbol_lookup(symbols, address, true, &frames, &n))
        return -ENOMEM;
    if (add_recorded(m, session, process, address, frames, n, list))
        return 0;
    struct tt_symbol_frame nameless = {"", "", "", 0, false, address};
    if (!n)
        return tt_vec_push(list, nameless);
    for (size_t i = 0; i < n; i++)
        if (tt_vec_push(list, frames[i]))
            return -ENOMEM;
    return 0;
}

const char *tt_report_material_name(void *material, size_t session, int64_t process, uint64_t pc)
{
    struct tt_report_material *m = material;
    struct tt_material_frames list = {0};
    m->name[0] = '\0';
    if (session < m->n && !tt_material_names(m, session, process, pc, &list) && list.len &&
        *list.data[0].function) {
        const struct tt_symbol_frame *f = &list.data[0];
        if (*f->file && f->line)
            snprintf(m->name, sizeof m->name, "%.300s@%.150s:%u", f->function,
                     tt_phrase_base(f->file), f->line);
        else
            snprintf(m->name, sizeof m->name, "%.500s", f->function);
    }
    tt_vec_free(&list);
    return m->name;
}

int tt_material_stack_get(void *arg, int session, int64_t process, int64_t id,
                          struct tt_report_stack *out)
{
    struct tt_report_material *m = arg;
    if (session < 0 || (size_t)session >= m->n || !id)
        return -ENOENT;
    const struct tt_material_stack *known = NULL;
    for (size_t i = 0; i < m->stacks.len && !known; i++) {
        const struct tt_material_stack *k = &m->stacks.data[i];
        if (k->session == session && k->process == process && k->id == id)
            known = k;
    }
    if (!known) {
        struct tt_material_stack made = {.session = session, .process = process, .id = id};
        struct tt_material_frames list = {0};
        int rc = tt_session_stack(m->sources[session].from.session, process, id, &made.raw, NULL);
        for (size_t i = 0; i < made.raw.n && !rc; i++)
            rc = tt_material_names(m, (size_t)session, process, made.raw.frames[i], &list);
        made.frames = list.data;
        made.n = list.len;
        made.cut = made.raw.cut;
        if (rc || (rc = tt_vec_push(&m->stacks, made))) {
            free(made.raw.frames);
            tt_vec_free(&list);
            return rc;
        }
        known = &m->stacks.data[m->stacks.len - 1];
    }
    *out = (struct tt_report_stack){known->frames, known->n, known->cut};
    return 0;
}

/* ---- the report's input ---- */

/* Looks every stack up that the report may show, so that warnings are known before it is written.
 */
static void look_up_all(struct tt_report_material *m, const struct tt_findings *findings)
{
    struct tt_report_stack stack;
    for (size_t i = 0; i < findings->list.len; i++) {
        const struct tt_finding *f = &findings->list.data[i];
        tt_material_stack_get(m, 0, f->process, f->stack, &stack);
        for (size_t k = 0; k < f->releases.len; k++)
            tt_material_stack_get(m, f->releases.data[k].session, f->releases.data[k].process,
                                  f->releases.data[k].stack, &stack);
        for (size_t k = 0; k < f->operation_releases.len; k++)
            tt_material_stack_get(m, f->operation_releases.data[k].session,
                                  f->operation_releases.data[k].process,
                                  f->operation_releases.data[k].stack, &stack);
    }
}

static int add_warning(struct tt_report_material *m, const char *line)
{
    /* A module that cannot be read is no loss while the session has its names. */
    for (size_t i = 0; i < m->rescued.len; i++) {
        size_t len = strlen(m->rescued.data[i]);
        if (len && !strncmp(line, m->rescued.data[i], len) && line[len] == ' ')
            return 0;
    }
    for (size_t i = 0; i < m->warnings.len; i++)
        if (!strcmp(m->warnings.data[i], line))
            return 0;
    return tt_vec_push(&m->warnings, line);
}

/* Operations that were asked for and could not be counted. */
static int add_refused_operations(struct tt_report_material *m)
{
    static const char refused[] = "refused: ";
    tt_session_operation_vec rows = {0};
    int rc = 0;
    if (tt_session_operations(m->sources[0].from.session, -1, &rows, NULL) != 0)
        rows.len = 0;
    for (size_t i = 0; i < rows.len && !rc; i++) {
        const struct tt_session_operation *row = &rows.data[i];
        if (strncmp(row->source, refused, sizeof refused - 1) != 0)
            continue;
        struct tt_text text = {0};
        tt_text_add(&text, "operation %s (%s) was not counted: %s", row->name, row->function,
                    row->source + sizeof refused - 1);
        if (text.failed || tt_vec_push(&m->owned, text.data)) {
            tt_text_free(&text);
            rc = -ENOMEM;
        } else {
            rc = add_warning(m, text.data);
        }
    }
    tt_vec_free(&rows);
    return rc;
}

static int collect_warnings(struct tt_report_material *m)
{
    m->warnings.len = 0;
    int rc = add_refused_operations(m);
    for (size_t i = 0; i < m->sets.len && !rc; i++) {
        size_t n;
        const char *const *lines = tt_symbol_warnings(m->sets.data[i].symbols, &n);
        for (size_t k = 0; k < n && !rc; k++)
            rc = add_warning(m, lines[k]);
    }
    return rc;
}

int tt_report_material_input(struct tt_report_material *m, const struct tt_findings *findings,
                             const char *tool_version, struct tt_report_input *input,
                             struct tt_error *err)
{
    m->repeat.len = 0;
    for (size_t i = 0; i < m->n; i++)
        m->view[i] = m->sources[i].session;
    int rc = tt_material_repeat(m);
    look_up_all(m, findings);
    if (!rc)
        rc = collect_warnings(m);
    if (rc)
        return tt_error_set(err, rc, "out of memory preparing the report");
    *input = (struct tt_report_input){.findings = findings,
                                      .sessions = m->view,
                                      .n_sessions = m->n,
                                      .tool_version = tool_version,
                                      .repeat = m->repeat.data,
                                      .n_repeat = m->repeat.len,
                                      .warnings = m->warnings.data,
                                      .n_warnings = m->warnings.len,
                                      .stack = tt_material_stack_get,
                                      .stack_arg = m};
    return 0;
}
