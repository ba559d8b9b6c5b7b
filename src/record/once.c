/* SPDX-License-Identifier: Apache-2.0 */
/* One snapshot and nothing else: of a process as it is now, without an agent in it, or of a core
 * file. The session has one process and its modules, so that places can be named, and what was
 * found. Start: tt_record_snapshot, tt_record_core. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "record/internal.h"

struct once {
    const struct tt_record_options *options;
    struct tt_record_result *result;
    struct tt_session_writer *writer;
    struct tt_search *search;
    uint64_t wall_ns;
    const char *core; /* NULL: a process */
    char exe[PATH_MAX + 32], cmdline[4096], build_id[TT_PROC_BUILD_ID];
    struct tt_session_process row;
};

static int make_session(struct once *once, pid_t pid, struct tt_error *err)
{
    char *name = tt_text_expand(once->options->output, pid);
    if (!name)
        return tt_error_set(err, -errno,
                            "cannot name the session after '%s': only %%p, %%h and %%%% are known",
                            once->options->output);
    snprintf(once->result->output, sizeof once->result->output, "%s", name);
    free(name);
    once->writer = tt_session_create(once->result->output, err);
    if (!once->writer)
        return err->code ? err->code : -EIO;
    once->result->pid = pid;
    return 0;
}

static void put_module(struct once *once, const char *path, uint64_t start, uint64_t end,
                       uint64_t offset)
{
    char build_id[TT_PROC_BUILD_ID] = "";
    struct stat st = {0};
    int fd = *path == '/' ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd >= 0) {
        tt_proc_build_id(fd, build_id);
        if (fstat(fd, &st) < 0)
            st.st_size = 0;
        close(fd);
    }
    tt_session_put_module(once->writer, &(struct tt_session_module){
                                            .process = 1,
                                            .start = start,
                                            .end = end,
                                            .file_offset = offset,
                                            .path = path,
                                            .build_id = build_id,
                                            .file_size = (uint64_t)st.st_size,
                                            .mtime = st.st_mtime,
                                            .since_ns = once->search->began_ns,
                                        });
}

static void describe(struct once *once, pid_t pid, const char *exe)
{
    struct stat st;
    char path[64];
    struct tt_session_process *row = &once->row;
    if (exe)
        snprintf(once->exe, sizeof once->exe, "%s", exe);
    else
        tt_proc_exe(pid, once->exe, sizeof once->exe);
    if (!exe)
        tt_proc_cmdline(pid, once->cmdline, sizeof once->cmdline);
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    int fd = open(exe ? exe : path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    *row = (struct tt_session_process){.id = 1,
                                       .pid = pid,
                                       .exe = once->exe,
                                       .build_id = once->build_id,
                                       .cmdline = once->cmdline,
                                       .started_ns = once->search->began_ns,
                                       .state = "running"};
    if (fd < 0)
        return;
    tt_proc_build_id(fd, once->build_id);
    if (fstat(fd, &st) == 0) {
        row->exe_size = (uint64_t)st.st_size;
        row->exe_mtime = st.st_mtime;
    }
    close(fd);
}

/* Searches, writes all rows, ends the session. */
static int finish(struct once *once, const char *source, struct tt_error *err)
{
    struct tt_search *search = once->search;
    struct tt_session_writer *w = once->writer;
    const struct tt_record_options *o = once->options;
    tt_rows_meta(w, o, search->pid, search->began_ns, once->wall_ns);
    tt_session_begin(w);
    tt_session_put_meta(w, "mode", "");
    if (once->core) { /* it may be another machine's */
        tt_session_put_meta(w, "core", once->core);
        tt_session_put_meta(w, "host", "");
        tt_session_put_meta(w, "kernel", "");
        tt_session_put_meta(w, "libc", "");
    }
    tt_session_put_process(w, &once->row);
    for (size_t i = 0; i < search->heap.ranges.len; i++) {
        const struct tt_heap_range *r = &search->heap.ranges.data[i];
        if ((r->exec || r->kind == TT_HEAP_TEXT) && r->path && *r->path == '/')
            put_module(once, r->path, r->start, r->end, r->file_offset);
    }
    tt_search_run(search);
    tt_inject_thaw(&search->frozen,
                   NULL); /* where it was not gone before; of a core there is none */
    if (search->code) {
        *err = search->err;
        tt_session_finish(w, false, NULL);
        unlink(once->result->output);
        *once->result->output = '\0';
        return search->code;
    }
    once->row.allocator = search->result.allocator;
    tt_session_put_process(w, &once->row);
    tt_search_rows(w, search, source);
    tt_session_put_metaf(w, "ended_ns", "%llu", (unsigned long long)search->ended_ns);
    tt_session_put_meta(w, "outcome", "one snapshot");
    tt_session_commit(w);
    once->result->processes = once->result->snapshots = 1;
    int code = tt_session_finish(w, true, err);
    once->result->trouble = code != 0;
    return code;
}

static struct tt_search *make_search(const struct tt_record_options *options, struct tt_error *err)
{
    struct tt_search *search = calloc(1, sizeof *search);
    if (!search) {
        tt_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    search->event_fd = search->tape.fd = -1;
    search->process = search->id = 1;
    search->place = options->place;
    search->place_arg = options->arg;
    return search;
}

int tt_record_snapshot(const struct tt_record_options *options, struct tt_record_result *result,
                       struct tt_error *err)
{
    struct once once = {.options = options, .result = result};
    pid_t pid = options->pids[0];
    *result = (struct tt_record_result){0};
    TT_VEC(struct tt_heap_thread) threads = {0};
    struct tt_search *search = once.search = make_search(options, err);
    if (!search)
        return -ENOMEM;
    int code = make_session(&once, pid, err);
    if (code)
        goto end;
    search->pid = pid;
    once.wall_ns = tt_clock_wall();
    code = tt_snapshot_room(options, pid, err);
    if (!code)
        tt_snapshot_prepare(pid);
    if (!code)
        code = tt_inject_freeze(pid, &search->frozen, err);
    if (code)
        goto drop;
    search->began_ns = search->frozen.at_ns;
    describe(&once, pid, NULL);
    for (size_t i = 0; !code && i < search->frozen.threads.len; i++)
        code = tt_vec_push(&threads, (struct tt_heap_thread){search->frozen.threads.data[i].tid,
                                                             search->frozen.threads.data[i].regs});
    if (!code)
        code = tt_heap_image_late(search->frozen.copy, pid, threads.data, threads.len,
                                  &search->heap, err);
    search->read_ns = tt_clock_now();
    if (!search->heap.pager)
        tt_inject_thaw(&search->frozen, NULL);
    if (!code)
        code = finish(&once, "copy", err);
    else
        goto drop;
    goto end;
drop:
    tt_heap_prepare(0);
    tt_session_finish(once.writer, false, NULL);
    unlink(result->output);
    *result->output = '\0';
end:
    tt_vec_free(&threads);
    tt_search_free(search);
    return code;
}

int tt_record_core(const struct tt_record_options *options, const char *core, const char *exe,
                   struct tt_record_result *result, struct tt_error *err)
{
    struct once once = {.options = options, .result = result};
    struct stat st;
    *result = (struct tt_record_result){0};
    struct tt_search *search = once.search = make_search(options, err);
    if (!search)
        return -ENOMEM;
    int code = tt_heap_image_core(core, exe, &search->heap, err);
    search->pid = search->heap.pid           ? search->heap.pid
                  : search->heap.threads.len ? search->heap.threads.data[0].tid
                                             : 0;
    if (!code)
        code = make_session(&once, search->pid, err);
    if (!code) {
        once.core = core;
        search->began_ns = tt_clock_now();
        once.wall_ns = stat(core, &st) == 0 ? (uint64_t)st.st_mtime * TT_SECOND : tt_clock_wall();
        const char *program = exe; /* else what lies lowest: so ld.so and the kernel place them */
        for (size_t i = 0; !program && i < search->heap.ranges.len; i++)
            if (search->heap.ranges.data[i].path && *search->heap.ranges.data[i].path == '/')
                program = search->heap.ranges.data[i].path;
        describe(&once, search->pid, program ? program : "");
        code = finish(&once, "core", err);
    }
    tt_search_free(search);
    return code;
}
