/* SPDX-License-Identifier: Apache-2.0 */
/* Frozen copies of processes, and when to make one. A copy costs the target a pause (what the
 * kernel needs to copy its page tables: some 14 ms per GB) and a page fault for each page it writes
 * while the copy lives, so: the first when recording begins (what was lost before), one at the end
 * (what was learned meanwhile names the sites of old blocks), and between them one when sites grow,
 * at most one a minute and ever fewer as the recording grows long. None that would be longer than
 * the budget or that memory does not allow. Start: tt_snapshot_visit. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "record/internal.h"

#define GB 1e9
#define EVERY_S 60.0
#define BUDGET_MS 20.0
#define SLACK 1.25                 /* of the default budget: kernels and machines differ so much */
#define NS_PER_BYTE 0.016          /* of a fork, where none was measured yet (MECHANISMS.md 4) */
#define MEASURED_LEAST (64u << 20) /* below, a pause is not the kernel's copying */
#define GROWN_LEAST 4u
#define SPREAD 16u /* the distance grows to this part of the recording's length */
#define FIRST_NS (TT_SECOND / 2)
#define KEPT 31 /* snapshots kept in full besides the first */
#define MEMORY_SPARE (256LL << 20)
#define LAST_FRESH_NS (2 * TT_SECOND) /* one this young is as good as a last one */

/* ---- when ---- */

uint64_t tt_snapshot_budget(const struct tt_record_options *options, uint64_t bytes)
{
    double ms = options->pause_budget_ms > 0 ? options->pause_budget_ms : BUDGET_MS;
    double gb = (double)bytes / GB;
    return (uint64_t)(ms * 1e6 * (gb > 1 ? gb : 1));
}

/* Nanoseconds of pause that are expected per byte. */
static double rate(const struct tt_copies *copies)
{
    return copies->ns_per_byte > 0 ? copies->ns_per_byte : NS_PER_BYTE;
}

bool tt_snapshot_fits(const struct tt_record_options *options, struct tt_copies *copies,
                      uint64_t bytes)
{
    double budget = (double)tt_snapshot_budget(options, bytes);
    if (options->pause_budget_ms <= 0)
        budget *= SLACK;
    if ((double)bytes * rate(copies) <= budget)
        return true;
    copies->too_slow++;
    if (rate(copies) > NS_PER_BYTE)
        copies->ns_per_byte = (rate(copies) + NS_PER_BYTE) / 2;
    return false;
}

void tt_snapshot_paused(const struct tt_record_options *options, struct tt_copies *copies,
                        uint64_t bytes, uint64_t ns)
{
    if (ns > tt_snapshot_budget(options, bytes))
        copies->over++;
    /* half of what was thought before: a single pause may have had bad luck */
    if (bytes >= MEASURED_LEAST)
        copies->ns_per_byte = (rate(copies) + (double)ns / (double)bytes) / 2;
}

bool tt_snapshot_wanted(const struct tt_record_options *options, const struct tt_copies *copies,
                        const struct tt_snapshot_question *question)
{
    uint64_t since = question->now_ns - copies->tried_ns;
    double every = options->snapshot_every > 0 ? options->snapshot_every : EVERY_S;
    if (options->snapshots == TT_SNAPSHOTS_OFF)
        return false;
    if (options->snapshots > 0) { /* the last of them is for the end */
        uint64_t most = (uint64_t)options->snapshots;
        if (copies->taken >= most ||
            (!question->ending && !question->exiting && most > 1 && copies->taken + 1 >= most))
            return false;
    }
    if (question->exiting)
        return question->grown >= GROWN_LEAST;
    if (question->ending)
        return !copies->tried_ns || since > LAST_FRESH_NS;
    if (!copies->tried_ns)
        return question->now_ns >= question->began_ns + FIRST_NS;
    uint64_t spread = (question->now_ns - question->began_ns) / SPREAD;
    return (double)since >= every * 1e9 && since >= spread && question->grown >= GROWN_LEAST;
}

/* The most that a site's live units have grown by since the last copy. */
static uint64_t growth(const struct tt_image *image)
{
    uint64_t most = 0;
    for (size_t i = 1; i < image->tape.sites.len; i++) {
        const struct tt_site *site = &image->tape.sites.data[i];
        uint64_t live =
            site->now.births > site->now.deaths ? site->now.births - site->now.deaths : 0;
        if (live > site->copy_live && live - site->copy_live > most)
            most = live - site->copy_live;
    }
    return most;
}

static void remember_growth(struct tt_image *image)
{
    for (size_t i = 0; i < image->tape.sites.len; i++) {
        struct tt_site *site = &image->tape.sites.data[i];
        site->copy_live =
            site->now.births > site->now.deaths ? site->now.births - site->now.deaths : 0;
    }
}

/* ---- whether there is room ---- */

/* A number in a file: what `key` says, or the first of all. -1 none. */
static int64_t number_in(const char *path, const char *key)
{
    char line[256];
    int64_t value = -1;
    FILE *f = fopen(path, "re");
    while (f && value < 0 && fgets(line, sizeof line, f)) {
        size_t n = strlen(key);
        char *end, *from = line + n;
        if (strncmp(line, key, n) != 0)
            continue;
        long long found = strtoll(from, &end, 10);
        if (end != from && found >= 0)
            value = found;
    }
    if (f)
        fclose(f);
    return value;
}

/* Bytes that the control group of a process may still take; the caches it holds count as free. */
static int64_t group_room(pid_t pid)
{
    char path[4500], group[4096] = "", line[4096];
    int64_t room = INT64_MAX;
    snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "0::/", 4) == 0) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(group, sizeof group, "%s", line + 3);
        }
    if (f)
        fclose(f);
    for (char *slash; *group && (slash = strrchr(group, '/')) != NULL; *slash = '\0') {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", group);
        int64_t most = number_in(path, "");
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.current", group);
        int64_t now = number_in(path, "");
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.stat", group);
        int64_t cache = number_in(path, "inactive_file ");
        if (most >= 0 && now >= 0 && most - now + (cache > 0 ? cache : 0) < room)
            room = most - now + (cache > 0 ? cache : 0);
    }
    return room;
}

/* The search holds less than half of the bytes where blocks are of usual sizes, and about as many
 * as there are where all are tiny; the target may have to copy the pages that it writes meanwhile.
 */
static bool has_room(pid_t pid, int64_t bytes)
{
    int64_t here = number_in("/proc/meminfo", "MemAvailable:"), own = group_room(getpid());
    here = here < 0 ? INT64_MAX : here * 1024;
    if (own < here)
        here = own;
    return here > bytes + MEMORY_SPARE && group_room(pid) > bytes / 4;
}

int tt_snapshot_room(const struct tt_record_options *options, pid_t pid, struct tt_error *err)
{
    struct tt_proc_figures figures;
    if (tt_proc_figures_read(pid, &figures) || figures.rss_anon < 0)
        return 0; /* who stops it says why it cannot */
    uint64_t bytes = (uint64_t)figures.rss_anon;
    if (options->pause_budget_ms > 0 &&
        (double)bytes * NS_PER_BYTE > (double)tt_snapshot_budget(options, bytes))
        return tt_error_set(err, -EBUSY,
                            "process %d would be stopped for about %.0f ms, beyond --pause-budget",
                            (int)pid, (double)bytes * NS_PER_BYTE / 1e6);
    if (!has_room(pid, figures.rss_anon))
        return tt_error_set(err, -ENOMEM,
                            "too little memory for a copy of process %d, which takes %.0f MB: free "
                            "some, or write a core file and give it to telltale core",
                            (int)pid, (double)bytes / 1e6);
    return 0;
}

void tt_snapshot_prepare(pid_t pid)
{
    struct tt_proc_figures figures;
    if (tt_proc_figures_read(pid, &figures) == 0 && figures.rss_anon > 0)
        tt_heap_prepare((uint64_t)figures.rss_anon);
}

/* ---- making one ---- */

static void not_taken(struct tt_image *image, uint64_t *count, const struct tt_error *err)
{
    ++*count;
    if (err)
        snprintf(image->copies.failed_why, sizeof image->copies.failed_why, "%.199s", err->text);
}

static void start(struct tt_recorder *rec, struct tt_image *image, uint64_t now_ns, bool at_exit)
{
    struct tt_copies *copies = &image->copies;
    struct tt_proc_figures figures;
    struct tt_error err = {0};
    copies->tried_ns = now_ns;
    copies->last_done = rec->ending != NULL;
    if (tt_proc_figures_read((pid_t)image->pid, &figures) || figures.rss_anon < 0) {
        return;
    }
    uint64_t bytes = (uint64_t)figures.rss_anon;
    if (!tt_snapshot_fits(rec->options, copies, bytes))
        return;
    if (!has_room((pid_t)image->pid, figures.rss_anon)) {
        not_taken(image, &copies->no_memory, NULL);
        return;
    }
    struct tt_search *search = calloc(1, sizeof *search);
    if (!search) {
        not_taken(image, &copies->no_memory, NULL);
        return;
    }
    search->event_fd = search->tape.fd = -1;
    search->image = image;
    search->process = image->id;
    search->id = (int64_t)copies->taken + 1;
    search->pid = (pid_t)image->pid;
    search->place = rec->options->place;
    search->place_arg = rec->options->arg;
    search->bytes = bytes;
    search->expected = at_exit ? 0 : bytes; /* it waits: no time to make memory ready */
    search->at_exit = at_exit;
    int code = tt_search_start(search);
    if (code) {
        tt_error_sys(&err, code, "cannot start a search");
        tt_search_free(search);
        not_taken(image, &copies->failed, &err);
        return;
    }
    rec->search = search;
}

/* Memory for the search is ready: the copy, which so lives no longer than it must. */
static void copy(struct tt_recorder *rec, struct tt_search *search)
{
    struct tt_image *image = search->image;
    struct tt_error *err = &search->err;
    if (!image || !image->alive) {
        search->code = -ECANCELED;
    } else {
        search->code = tt_inject_freeze(search->pid, &search->frozen, err);
        if (search->code == -ESRCH) /* it ended meanwhile */
            search->code = -ECANCELED;
    }
    if (!search->code) {
        search->held = true;
        search->began_ns = search->frozen.at_ns;
        search->tick = tt_record_tick_at(rec, search->frozen.at_ns);
        tt_snapshot_paused(rec->options, &image->copies, search->bytes, search->frozen.stop_ns);
        search->tape.fd = dup(image->tape.fd);
        search->tape.head = image->tape.head;
        if (search->tape.fd < 0)
            search->code = tt_error_sys(err, -errno, "cannot read the tape");
    }
    if (!search->code) {
        remember_growth(image);
        image->copies.taken++;
    } else if (search->held) {
        tt_inject_thaw(&search->frozen, NULL);
        search->held = false;
    }
    tt_search_go(search);
}

/* ---- ending one ---- */

/* Sites that lost blocks get rows of their own, whatever their number. */
static void choose_sites(const struct tt_search *search)
{
    struct tt_tape *tape = &search->image->tape;
    for (size_t g = 0; g < search->result.groups.len; g++)
        for (size_t i = 0; i < search->result.groups.data[g].shares.len; i++) {
            uint32_t site = search->result.groups.data[g].shares.data[i].site;
            if (site < tape->sites.len && tape->sites.data[site].ready)
                tape->sites.data[site].chosen = true;
        }
}

static void finish(struct tt_recorder *rec)
{
    struct tt_search *search = rec->search;
    struct tt_image *image = search->image;
    pthread_join(search->thread, NULL);
    rec->search = NULL;
    if (!search->code && rec->writer && !tt_session_failed(rec->writer, NULL)) {
        if (image)
            choose_sites(search);
        tt_session_begin(rec->writer);
        tt_search_rows(rec->writer, search, "copy");
        tt_session_drop_snapshots(rec->writer, search->process, search->id - KEPT);
        tt_session_commit(rec->writer);
        rec->result->snapshots++;
    }
    if (image && search->code && search->code != -ECANCELED)
        not_taken(image, &image->copies.failed, &search->err);
    tt_search_free(search);
}

/* The copy is no longer needed once it is read: gone, the target's writes cost nothing any more. */
static void thaw(struct tt_search *search)
{
    if (search->held && search->stage >= TT_SEARCH_READ) {
        tt_inject_thaw(&search->frozen, NULL);
        search->held = false;
    }
}

int tt_snapshot_fd(const struct tt_recorder *rec)
{
    return rec->search ? rec->search->event_fd : -1;
}

static bool wants(const struct tt_recorder *rec, const struct tt_image *image, uint64_t now_ns,
                  bool exiting)
{
    if (!image->alive || !image->id || !image->visible || !image->first_read ||
        image->tape.head.state != TT_STATE_RUNNING || (rec->ending && image->copies.last_done))
        return false;
    const struct tt_snapshot_question question = {
        .now_ns = now_ns,
        .began_ns = image->opened_ns,
        .grown = growth(image),
        .ending = rec->ending != NULL,
        .exiting = exiting,
    };
    return tt_snapshot_wanted(rec->options, &image->copies, &question);
}

static void let_go(struct tt_image *image)
{
    image->let_go = true;
    tt_tape_let_go(&image->tape);
}

/* A process that stands at its exit: a last copy shows what nothing points to in the end. */
static void visit_exits(struct tt_recorder *rec, uint64_t now_ns)
{
    for (size_t i = 0; !rec->search && i < rec->images.len; i++) {
        struct tt_image *image = rec->images.data[i];
        if (!image->alive || !image->id || image->let_go || !tt_tape_exiting(&image->tape))
            continue;
        tt_image_read(rec, image, now_ns, false);
        if (wants(rec, image, now_ns, true))
            start(rec, image, now_ns, true);
        if (!rec->search)
            let_go(image);
    }
}

void tt_snapshot_visit(struct tt_recorder *rec, uint64_t now_ns)
{
    struct tt_search *search = rec->search;
    if (search) {
        if (search->stage == TT_SEARCH_PREPARED)
            copy(rec, search);
        if (search->at_exit && search->image && !search->image->let_go &&
            search->stage >= TT_SEARCH_COPIED)
            let_go(search->image);
        thaw(search);
        if (search->stage == TT_SEARCH_DONE)
            finish(rec);
        return;
    }
    if (rec->options->snapshots != TT_SNAPSHOTS_OFF)
        visit_exits(rec, now_ns);
    for (size_t i = 0; !rec->search && i < rec->images.len; i++)
        if (wants(rec, rec->images.data[i], now_ns, false))
            start(rec, rec->images.data[i], now_ns, false);
}

bool tt_snapshot_last(const struct tt_recorder *rec)
{
    uint64_t now = tt_clock_now();
    bool more = rec->search != NULL;
    for (size_t i = 0; !more && i < rec->images.len; i++)
        more = wants(rec, rec->images.data[i], now, false);
    return more;
}

void tt_snapshot_finish(struct tt_recorder *rec)
{
    if (!rec->search)
        return;
    while (rec->search->stage < TT_SEARCH_READ) {
        if (rec->search->stage == TT_SEARCH_PREPARED) {
            rec->search->code = -ECANCELED;
            tt_search_go(rec->search);
        }
        usleep(1000);
    }
    thaw(rec->search);
    finish(rec);
}
