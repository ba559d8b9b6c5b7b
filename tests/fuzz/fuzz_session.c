/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a session file: every reader is called on whatever can be opened.
 * Start: LLVMFuzzerTestOneInput. */
#include <fcntl.h>
#include <unistd.h>

#include "fuzz.h"
#include "session/session.h"
#include "session/snapshot.h"
#include "session/writer.h"

/* Runs a reader into a fresh vector and frees it. */
#define READ(type, call)                                                                           \
    do {                                                                                           \
        type out = {0};                                                                            \
        (void)(call);                                                                              \
        tt_vec_free(&out);                                                                         \
    } while (0)

static const char *scratch(void)
{
    static char path[64];
    if (!*path)
        snprintf(path, sizeof path, "/dev/shm/tt-fuzz-%d.tt", (int)getpid());
    return path;
}

static void remove_scratch(void)
{
    unlink(scratch());
}

static void read_process(struct tt_session *s, int64_t process)
{
    struct tt_error err;
    tt_session_site_vec sites = {0};
    READ(tt_session_module_vec, tt_session_modules(s, process, &out, &err));
    READ(tt_session_operation_vec, tt_session_operations(s, process, &out, &err));
    READ(tt_session_proc_vec, tt_session_procs(s, process, &out, &err));
    READ(tt_session_limit_vec, tt_session_limits(s, process, &out, &err));
    READ(tt_session_dropped_vec, tt_session_dropped(s, process, &out, &err));
    READ(tt_session_survivor_vec, tt_session_survivors(s, process, -1, &out, &err));
    READ(tt_session_release_vec, tt_session_releases(s, process, -1, &out, &err));
    READ(tt_session_release_age_vec, tt_session_release_ages(s, process, -1, &out, &err));
    READ(tt_session_count_vec, tt_session_operation_series(s, process, 1, &out, &err));
    READ(tt_session_symbol_vec, tt_session_symbols_get(s, process, 0x1000, &out, &err));
    READ(tt_session_snapshot_vec, tt_session_snapshots(s, process, &out, &err));
    READ(tt_session_lost_group_vec, tt_session_lost_groups(s, process, -1, &out, &err));
    READ(tt_session_lost_share_vec, tt_session_lost_shares(s, process, -1, &out, &err));
    READ(tt_session_holder_vec, tt_session_holders(s, process, -1, &out, &err));
    READ(tt_session_held_vec, tt_session_helds(s, process, -1, &out, &err));
    READ(tt_session_stale_vec, tt_session_stales(s, process, &out, &err));
    struct tt_session_look look;
    struct tt_session_attach attach;
    tt_session_look(s, process, &look, &err);
    tt_session_attach(s, process, &attach, &err);
    tt_session_sites(s, process, &sites, &err);
    for (size_t i = 0; i < sites.len && i < 8; i++) {
        struct tt_session_stack stack;
        uint64_t bins[TT_SESSION_BINS];
        READ(tt_session_sample_vec, tt_session_series(s, process, sites.data[i].id, &out, &err));
        tt_session_deaths(s, process, sites.data[i].id, bins, &err);
        if (tt_session_stack(s, process, sites.data[i].stack, &stack, &err) == 0)
            free(stack.frames);
    }
    tt_vec_free(&sites);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    int fd = open(scratch(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n)
        abort();
    close(fd);
    struct tt_error err;
    struct tt_session *s = tt_session_open(scratch(), &err);
    if (s) {
        READ(tt_session_label_vec, tt_session_labels(s, &out, &err));
        READ(tt_session_process_vec, tt_session_processes(s, &out, &err));
        READ(tt_session_epoch_vec, tt_session_epochs(s, &out, &err));
        read_process(s, -1);
        read_process(s, 1);
        tt_session_close(s);
    }
    remove_scratch();
    return 0;
}

/* Rows of every table, so that a mutation can reach every reader. */
static void fill(struct tt_session_writer *w)
{
    tt_session_put_meta(w, "command", "[\"a\", \"-x\"]");
    tt_session_put_meta(w, "mode", "adaptive");
    tt_session_put_meta(w, "ended_ns", "900000");
    tt_session_put_meta(w, "horizon_s", "2.5");
    tt_session_put_meta(w, "exit_status", "-9");
    tt_session_put_label(w, "owners", "4");
    tt_session_put_process(w, &(struct tt_session_process){.id = 1,
                                                           .pid = 2,
                                                           .exe = "/bin/a",
                                                           .build_id = "00ff",
                                                           .has_exit = true,
                                                           .exit_status = -9,
                                                           .state = "refused",
                                                           .reason = "why"});
    tt_session_put_module(w, &(struct tt_session_module){.process = 1,
                                                         .start = 0x1000,
                                                         .end = 0x9000,
                                                         .path = "/bin/a",
                                                         .build_id = "00ff",
                                                         .since_ns = 1});
    for (int64_t id = 1; id < 20; id++) {
        uint64_t frames[20] = {0x1000, 0x2000, (uint64_t)id};
        tt_session_put_stack(w, 1, id, id % 5 == 0, frames, 20);
        tt_session_put_site(w, &(struct tt_session_site){.process = 1,
                                                         .id = id,
                                                         .resource = "heap",
                                                         .stack = id,
                                                         .thin = (uint32_t)id,
                                                         .size_min = 1,
                                                         .size_max = 40});
        for (int64_t e = 1; e < 20; e++)
            tt_session_put_sample(w, 1, id,
                                  &(struct tt_session_sample){.epoch = e, .births = (uint64_t)e});
        tt_session_put_death(w, 1, id, (uint32_t)id, 7);
        tt_session_put_survivor(w, 1, &(struct tt_session_survivor){id, 40, 5, 6});
        tt_session_put_release(w, 1, &(struct tt_session_release){id, 20 - id, 3, 64, 500});
        tt_session_put_release_age(w, 1, &(struct tt_session_release_age){id, 9, 3, 64});
    }
    tt_session_put_look(w, 1, &(struct tt_session_look){900, 7, true, false});
    tt_session_put_operation(w,
                             &(struct tt_session_operation){1, 1, "call", "f", 0x1000, "stack", 1});
    for (int64_t e = 1; e < 20; e++) {
        tt_session_put_epoch(w, e, (uint64_t)e * 1000);
        tt_session_put_count(w, 1, 1, e, (uint64_t)e);
        tt_session_put_proc(w, 1,
                            &(struct tt_session_proc){.epoch = e, .rss_anon = e, .vm_size = -1});
    }
    for (int64_t id = 1; id < 4; id++) {
        tt_session_put_snapshot(w, &(struct tt_session_snapshot){.process = 1,
                                                                 .id = id,
                                                                 .at_ns = 500,
                                                                 .tick = 4,
                                                                 .source = "copy",
                                                                 .allocator = "glibc 2.36",
                                                                 .blocks = 100,
                                                                 .bytes = 4800,
                                                                 .lost_units = 10,
                                                                 .lost_bytes = 480,
                                                                 .old_units = 6,
                                                                 .unknown_units = 2});
        for (int64_t group = 1; group < 9; group++) {
            tt_session_put_lost_group(
                w, &(struct tt_session_lost_group){1, id, group, 0x55aa55aaULL << 20, 48, 56, 7,
                                                   336, 5, 2, 96, 2, 96, "48 bytes", "55d0 55e0"});
            tt_session_put_lost_share(
                w, &(struct tt_session_lost_share){1, id, group, 2, 3, 144, 2, 96, 0.97});
        }
        tt_session_put_holder(
            w, &(struct tt_session_holder){1, id, 1, 0, "global calls", "calls -> b", 90, 4000});
        tt_session_put_held(w, &(struct tt_session_held){1, id, 1, 2, 80, 3800});
    }
    tt_session_put_stale(w, &(struct tt_session_stale){1, 2, 3, 10, 4, 160, 1e6, 90.5});
    tt_session_put_attach(
        w, &(struct tt_session_attach){1, 100, 20, 300, 8000, 250, 14, 2, 1, "a line"});
    tt_session_put_limit(w, &(struct tt_session_limit){1, "RLIMIT_AS", -1});
    tt_session_put_dropped(w, &(struct tt_session_dropped){1, "births", 5});
}

static int name(const char *path)
{
    const struct tt_session_symbol frame = {"f", "a", "a.c", 3, true};
    const struct tt_session_symbol_row row = {1, 0x1000, &frame, 1};
    struct tt_error err;
    return tt_session_symbols_put(path, &row, 1, &err);
}

uint8_t *fuzz_example(unsigned k, size_t *n)
{
    static uint8_t *kept;
    static size_t kept_n;
    (void)k;
    if (!kept) {
        struct tt_error err;
        struct tt_session_writer *w = tt_session_create(scratch(), &err);
        if (!w)
            return NULL;
        tt_session_begin(w);
        tt_session_put_meta(w, "started_ns", "100");
        fill(w);
        tt_session_commit(w);
        if (tt_session_finish(w, true, &err) || name(scratch()))
            return NULL;
        FILE *f = fopen(scratch(), "rb");
        kept = f ? malloc(FUZZ_BYTES_MAX) : NULL;
        if (!kept)
            return NULL;
        kept_n = fread(kept, 1, FUZZ_BYTES_MAX, f);
        fclose(f);
        remove_scratch();
    }
    uint8_t *copy = malloc(kept_n);
    if (copy)
        memcpy(copy, kept, kept_n);
    *n = kept_n;
    return copy;
}
