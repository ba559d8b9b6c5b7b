/* SPDX-License-Identifier: Apache-2.0 */
/* The image of a frozen copy: its private memory in one reservation, read by two threads in pieces
 * of 4 MiB, or where it is much, when it is looked at (pager.c). A page that was never touched
 * reads as zero here as it does there, so only touched pages are read and a reservation of
 * terabytes costs nothing. Ranges that touch there touch here too. What fork does not copy is read
 * from the process itself: shared mappings, and those with MADV_DONTFORK, as V8 makes for its heap.
 * Start: tt_heap_image_frozen. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "heap/internal_image.h"
#include "proc/proc.h"

enum {
    PIECE = 4 << 20,
    HUGE = 2 << 20,
    SHARED_MOST = 64 << 20,
    HOLE_LEAST = 64 << 20, /* untouched: a range of its own, not read */
    LATE_LEAST = 32 << 20, /* touched: read when it is looked at */
    READERS = 2
};

struct frozen {
    struct tt_proc_maps maps, live; /* of the copy and of the process; the paths */
    tt_heap_run_vec holes;
    uint8_t *memory;
    size_t size;
};
static void frozen_free(struct tt_heap_image *image)
{
    struct frozen *f = image->owned;
    tt_heap_pager_free(image->pager);
    if (f->memory)
        munmap(f->memory, f->size);
    tt_proc_maps_free(&f->maps);
    tt_proc_maps_free(&f->live);
    tt_vec_free(&f->holes);
    free(f);
}

struct piece {
    uint64_t from;
    uint8_t *to;
    size_t n;
};
struct job {
    int mem; /* /proc/PID/mem */
    TT_VEC(struct piece) pieces;
    size_t next;
    uint64_t read, unread;
};

/* Not process_vm_readv(2): it pins pages, and a private page that a fork shares is copied before it
 * is pinned (Linux 5.19), which takes as much memory again and four times as long. */
uint64_t tt_heap_read_process(int mem, uint64_t from, void *to, uint64_t n)
{
    uint64_t done = 0;
    while (done < n) {
        ssize_t got = pread(mem, (uint8_t *)to + done, n - done, (off_t)(from + done));
        if (got <= 0)
            break;
        done += (uint64_t)got;
    }
    return done;
}

static void *reader(void *arg)
{
    struct job *job = arg;
    for (;;) {
        size_t i = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
        if (i >= job->pieces.len)
            return NULL;
        const struct piece *p = &job->pieces.data[i];
        uint64_t done = 0, lost = 0;
        while (done < p->n) { /* behind a page that cannot be read the next one may be readable */
            done += tt_heap_read_process(job->mem, p->from + done, p->to + done, p->n - done);
            if (done < p->n) {
                uint64_t step = 4096 - ((p->from + done) & 4095);
                step = step < p->n - done ? step : p->n - done;
                lost += step;
                done += step;
            }
        }
        __atomic_fetch_add(&job->read, p->n - lost, __ATOMIC_RELAXED);
        __atomic_fetch_add(&job->unread, lost, __ATOMIC_RELAXED);
    }
}

static void run(struct job *job)
{
    pthread_t other[READERS - 1];
    unsigned n = 0;
    while (n < READERS - 1 && job->pieces.len > 1 &&
           pthread_create(&other[n], NULL, reader, job) == 0)
        n++;
    reader(job);
    while (n)
        pthread_join(other[--n], NULL);
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the readers write there */
static int add_pieces(struct job *job, uint64_t start, uint64_t end, uint8_t *to)
{
    for (uint64_t at = start; at < end; at += PIECE) {
        uint64_t n = end - at < PIECE ? end - at : PIECE;
        if (tt_vec_push(&job->pieces, (struct piece){at, to + (at - start), n}))
            return -ENOMEM;
    }
    return 0;
}

struct mems {
    int copy, target;
};

static int read_either(void *arg, uint64_t address, void *out, size_t n)
{
    const struct mems *mems = arg;
    return tt_heap_read_process(mems->copy, address, out, n) == n ||
                   tt_heap_read_process(mems->target, address, out, n) == n
               ? 0
               : -EFAULT;
}

static bool is_hole(const tt_heap_run_vec *holes, uint64_t start)
{
    for (size_t i = 0; i < holes->len; i++)
        if (holes->data[i].start == start)
            return true;
    return false;
}

static bool wanted(const struct frozen *f, const struct tt_heap_range *r)
{
    const struct tt_proc_map *m = tt_proc_map_at(r->live ? &f->live : &f->maps, r->start);
    if (!m || !m->read || r->kind == TT_HEAP_OURS || is_hole(&f->holes, r->start))
        return false;
    if (r->kind == TT_HEAP_SHARED)
        return r->write && r->end - r->start <= SHARED_MOST;
    return r->kind != TT_HEAP_TEXT;
}

static int take(struct tt_heap_image *image, const struct tt_proc_map *m, const char *path,
                bool live)
{
    if (strncmp(path, "[vvar", 5) == 0 || strcmp(path, "[vsyscall]") == 0 ||
        strcmp(path, "[uprobes]") == 0)
        return 0;
    struct tt_heap_range r = {.start = m->start,
                              .end = m->end,
                              .path = path,
                              .file_offset = m->offset,
                              .kind = m->shared ? TT_HEAP_SHARED : TT_HEAP_ANON,
                              .write = m->write,
                              .exec = m->exec,
                              .live = live};
    return tt_vec_push(&image->ranges, r);
}

/* Both lists ascend. A private mapping of the process that the copy lacks altogether was left out
 * by fork, or is younger: then it is read for nothing. */
static int take_maps(const struct frozen *f, struct tt_heap_image *image)
{
    size_t k = 0, n = f->live.maps.len;
    int rc = 0;
    for (size_t i = 0; i <= f->maps.maps.len && rc == 0; i++) {
        const struct tt_proc_map *m = i < f->maps.maps.len ? &f->maps.maps.data[i] : NULL;
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): there is one before the i-th */
        uint64_t until = m ? m->start : UINT64_MAX, from = i ? f->maps.maps.data[i - 1].end : 0;
        for (; k < n && f->live.maps.data[k].start < until && rc == 0; k++) {
            const struct tt_proc_map *l = &f->live.maps.data[k];
            if (l->start >= from && l->end <= until && !l->shared)
                rc = take(image, l, tt_proc_map_path(&f->live, l), true);
        }
        if (m && rc == 0)
            rc = take(image, m, tt_proc_map_path(&f->maps, m), false);
    }
    return rc;
}

/* Cuts [start, end) out of the range it lies in. */
static int cut(struct tt_heap_image *image, uint64_t start, uint64_t end)
{
    for (int k = 0; k < 2; k++) {
        uint64_t at = k ? end : start;
        size_t i = tt_heap_range_from(image, at);
        if (i == image->ranges.len || image->ranges.data[i].start >= at)
            continue;
        if (tt_vec_push(&image->ranges, image->ranges.data[i]))
            return -ENOMEM;
        struct tt_heap_range *r = &image->ranges.data[i];
        memmove(r + 1, r, (image->ranges.len - i - 1) * sizeof *r);
        r[0].end = r[1].start = at;
    }
    return 0;
}

/* Large parts of reservations that were never touched become ranges of their own, not read. */
static int find_holes(struct tt_heap_image *image, struct frozen *f, const int pagemaps[2])
{
    tt_heap_run_vec runs = {0};
    int rc = 0;
    for (size_t i = 0; i < image->ranges.len && rc == 0; i++) {
        const struct tt_heap_range r = image->ranges.data[i];
        if (r.path[0] || r.kind == TT_HEAP_SHARED || r.end - r.start < HOLE_LEAST || !wanted(f, &r))
            continue;
        runs.len = 0;
        if (tt_heap_resident(pagemaps[r.live], r.start, r.end, &runs))
            continue;
        uint64_t at = r.start;
        for (size_t k = 0; k <= runs.len && rc == 0; k++) {
            uint64_t end = k < runs.len ? runs.data[k].start : r.end;
            if (end - at >= HOLE_LEAST) {
                rc = tt_vec_push(&f->holes, (struct tt_heap_run){at, end});
                if (rc == 0)
                    rc = cut(image, at, end);
            }
            at = k < runs.len ? runs.data[k].end : at;
        }
    }
    tt_vec_free(&runs);
    return rc;
}

/* Lists the touched parts of a range to read, but for [late, late_end). */
static int add_runs(struct job *job, const struct tt_heap_range *r, const tt_heap_run_vec *runs,
                    uint64_t late, uint64_t late_end)
{
    for (size_t k = 0; k < runs->len; k++) {
        const struct tt_heap_run *run = &runs->data[k];
        for (int part = 0; part < 2; part++) {
            uint64_t start = part && late_end > run->start ? late_end : run->start;
            uint64_t end = !part && late < run->end ? late : run->end;
            if (start < end && (part == 0 || late < late_end) &&
                add_pieces(job, start, end, (uint8_t *)r->bytes + (start - r->start)))
                return -ENOMEM;
        }
    }
    return 0;
}

/* Reserves one place for everything wanted, and lists the pieces to read at once. */
static int plan(struct tt_heap_image *image, struct frozen *f, const int pagemaps[2], bool whole,
                struct job *own, struct job *target)
{
    tt_heap_run_vec runs = {0};
    int rc = 0;
    uint64_t total = 0, before = 0;
    for (size_t i = 0; i < image->ranges.len; i++) {
        struct tt_heap_range *r = &image->ranges.data[i];
        if (!wanted(f, r))
            continue;
        if (r->start != before) /* the same place within a huge page as there */
            total = ((total + HUGE - 1) & ~(HUGE - 1ull)) + (r->start & (HUGE - 1));
        total += r->end - r->start;
        before = r->end;
    }
    total = (total + HUGE - 1) & ~(HUGE - 1ull);
    f->size = total + HUGE;
    void *memory = mmap(NULL, f->size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    f->memory = memory;
    uint8_t *base = (uint8_t *)(((uintptr_t)memory + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
    total = before = 0;
    for (size_t i = 0; i < image->ranges.len && rc == 0; i++) {
        struct tt_heap_range *r = &image->ranges.data[i];
        uint64_t size = r->end - r->start;
        if (!wanted(f, r))
            continue;
        if (r->start != before)
            total = ((total + HUGE - 1) & ~(HUGE - 1ull)) + (r->start & (HUGE - 1));
        r->bytes = base + total;
        total += size;
        before = r->end;
        struct job *job = r->kind == TT_HEAP_SHARED || r->live ? target : own;
        int pagemap = pagemaps[r->live];
        if (r->path[0] || size <= 65536 || pagemap < 0) {
            rc = add_pieces(job, r->start, r->end, (uint8_t *)r->bytes);
            continue;
        }
        runs.len = 0;
        if (tt_heap_resident(pagemap, r->start, r->end, &runs)) {
            rc = add_pieces(job, r->start, r->end, (uint8_t *)r->bytes);
            continue;
        }
        uint64_t touched = 0, late = r->end, late_end = r->end;
        for (size_t k = 0; k < runs.len; k++)
            touched += runs.data[k].end - runs.data[k].start;
        if (rc == 0 && !whole && !r->live && touched >= LATE_LEAST) {
            late = (r->start + HUGE - 1) & ~(HUGE - 1ull);
            late_end = r->end & ~(HUGE - 1ull);
            if (!image->pager)
                image->pager =
                    tt_heap_pager_make(own->mem, base, (f->size - HUGE) & ~(size_t)(HUGE - 1));
            rc = image->pager ? tt_heap_pager_add(image->pager, late, late_end,
                                                  (uint8_t *)r->bytes + (late - r->start), &runs)
                              : 0;
            if (!image->pager)
                late = late_end = r->end;
            else if (rc == 0)
                image->read_bytes += touched;
        }
        if (rc == 0)
            rc = add_runs(job, r, &runs, late, late_end);
        /* Huge pages halve the time of reading into fresh memory, but would make a sparse range
         * whole. */
        if (size >= HUGE && touched >= size / 4 * 3 && late == r->end)
            madvise((void *)((uintptr_t)r->bytes & ~4095ul), size, MADV_HUGEPAGE);
    }
    tt_vec_free(&runs);
    struct tt_heap_sieve *sieve = rc == 0 && image->pager ? tt_heap_sieve_make(image) : NULL;
    if (sieve)
        tt_heap_pager_sift(image->pager, sieve);
    return rc;
}

static int open_of(pid_t pid, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "/proc/%d/%s", (int)pid, what);
    return open(name, O_RDONLY | O_CLOEXEC);
}

static int make(pid_t copy, pid_t target, const struct tt_heap_thread *threads, size_t n_threads,
                bool whole, struct tt_heap_image *out, struct tt_error *err)
{
    struct mems mems = {open_of(copy, "mem"), open_of(target, "mem")};
    struct job own = {.mem = mems.copy}, shared = {.mem = mems.target};
    *out = (struct tt_heap_image){.pid = target};
    struct frozen *f = calloc(1, sizeof *f);
    if (!f)
        return tt_error_set(err, -ENOMEM, "out of memory");
    out->owned = f;
    out->free = frozen_free;
    int pagemaps[2] = {open_of(copy, "pagemap"), open_of(target, "pagemap")};
    int rc = tt_proc_maps_read(copy, &f->maps);
    if (rc == 0)
        rc = tt_proc_maps_read(target, &f->live);
    if (rc) {
        tt_error_sys(err, rc, "cannot read the mappings of the copy %d of process %d", (int)copy,
                     (int)target);
        goto out;
    }
    rc = tt_vec_reserve(&out->threads, n_threads ? n_threads : 1);
    for (size_t i = 0; i < n_threads && rc == 0; i++)
        rc = tt_vec_push(&out->threads, threads[i]);
    if (rc || (rc = take_maps(f, out)) != 0 ||
        (rc = tt_heap_image_classify(out, read_either, &mems)) != 0 ||
        (rc = find_holes(out, f, pagemaps)) != 0 ||
        (rc = plan(out, f, pagemaps, whole, &own, &shared)) != 0 ||
        (rc = tt_heap_kernel_roots(target, out)) != 0) {
        tt_error_sys(err, rc, "no memory for the image of process %d", (int)target);
        goto out;
    }
    run(&own);
    run(&shared);
    out->read_bytes += own.read + shared.read;
    out->unread_bytes = own.unread + shared.unread;
    if (own.read == 0)
        rc = tt_error_set(err, -EACCES,
                          "cannot read the memory of process %d: needs CAP_SYS_PTRACE: run as "
                          "root, or set kernel.yama.ptrace_scope=0",
                          (int)target);
out:
    for (unsigned i = 0; i < 2; i++)
        if (pagemaps[i] >= 0)
            close(pagemaps[i]);
    tt_vec_free(&own.pieces);
    tt_vec_free(&shared.pieces);
    if (rc)
        tt_heap_image_free(out);
    return rc;
}

int tt_heap_image_frozen(pid_t copy, pid_t target, const struct tt_heap_thread *threads,
                         size_t n_threads, struct tt_heap_image *out, struct tt_error *err)
{
    return make(copy, target, threads, n_threads, true, out, err);
}

int tt_heap_image_late(pid_t copy, pid_t target, const struct tt_heap_thread *threads,
                       size_t n_threads, struct tt_heap_image *out, struct tt_error *err)
{
    return make(copy, target, threads, n_threads, false, out, err);
}
