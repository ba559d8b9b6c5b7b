/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the fixture under the agent and reads what it left. Start: run_meddling. */
#include "test_agent_run.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test_build.h"

char tapes[64];
rlim_t address_space = RLIM_INFINITY;

/* ---- reading a tape ---- */

void open_tape(struct tape *t, const char *name, double mean)
{
    char path[600];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", tapes, name);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    t->bytes = (size_t)st.st_size;
    t->base = mmap(NULL, t->bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
    assert_true(t->base != MAP_FAILED);
    close(fd);
    t->head = (const void *)t->base;
    t->sites = (const void *)(t->base + TT_TAPE_OFF_SITES);
    t->frames = (const void *)(t->base + TT_TAPE_OFF_FRAMES);
    t->foreign = 0;
    assert_true(t->head->magic == TT_TAPE_MAGIC);
    assert_int_equal(t->bytes, TT_TAPE_FILE_BYTES(t->head->granule_shift));
    t->total = calloc(t->head->site_count, sizeof *t->total);
    assert_non_null(t->total);
    for (uint32_t i = 0; i < t->head->site_count; i++) {
        t->total[i].births = (long)t->sites[i].births;
        t->total[i].bytes = (double)t->sites[i].birth_bytes;
        t->total[i].deaths = (long)t->sites[i].early_deaths;
        for (unsigned k = 1; k < TT_TAPE_BINS; k++)
            t->total[i].deaths += t->sites[i].deaths[k];
    }
    const struct tt_tape_thread *slots = (const void *)(t->base + TT_TAPE_OFF_THREADS);
    for (uint32_t i = 1; i < t->head->thread_count; i++) {
        t->foreign += (long)slots[i].foreign_frees;
        for (unsigned k = 0; k < TT_TAPE_TALLIES; k++) {
            const struct tt_tape_tally *tally = &slots[i].tally[k];
            if (tally->site == 0)
                continue;
            struct total *total = &t->total[tally->site];
            total->births += tally->births;
            total->deaths += tally->early_deaths;
            total->bytes += (double)tally->birth_bytes;
        }
    }
    uint64_t region = TT_TAPE_REGION_BYTES(t->head->granule_shift);
    for (uint32_t r = 0; r < t->head->region_count; r++) {
        const uint64_t *entry = (const void *)(t->base + TT_TAPE_OFF_SHADOW + r * region);
        for (uint64_t i = 0; i < region / 8; i++) {
            if (entry[i] == 0)
                continue;
            uint32_t site = tt_tape_entry_site(entry[i]);
            assert_true(site < t->head->site_count);
            double p = mean > 0 ? -expm1(-(double)tt_tape_entry_size(entry[i]) / mean) : 1;
            t->total[site].live++;
            t->total[site].estimate += 1 / p;
            t->total[site].variance += (1 - p) / (p * p);
        }
    }
    /* What was born is dead or in the shadow, site by site. */
    for (uint32_t i = 0; i < t->head->site_count; i++)
        assert_int_equal(t->total[i].births - t->total[i].deaths, t->total[i].live);
}

void close_tape(struct tape *t)
{
    free(t->total);
    munmap((void *)(uintptr_t)t->base, t->bytes);
}

/* ---- running the fixture ---- */

static void clear_tapes(void)
{
    DIR *dir = opendir(tapes);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        if (e->d_name[0] == 't')
            unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
}

int tapes_make(void **state)
{
    (void)state;
    strcpy(tapes,
           access("/dev/shm", W_OK) == 0 ? "/dev/shm/test_agent.XXXXXX" : "/tmp/test_agent.XXXXXX");
    return mkdtemp(tapes) && chmod(tapes, 0700) == 0 ? 0 : -1;
}

int tapes_remove(void **state)
{
    (void)state;
    clear_tapes();
    return rmdir(tapes);
}

unsigned count_tapes(void)
{
    unsigned n = 0;
    DIR *dir = opendir(tapes);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        n += e->d_name[0] == 't';
    closedir(dir);
    return n;
}

static void read_truth(struct run *run, char *line)
{
    struct truth *t = &run->truth[run->count];
    int used = 0;
    if (run->count == 16 ||
        sscanf(line, "site %39s %lx births %ld deaths %ld bytes %ld stack%n", t->name, &t->function,
               &t->births, &t->deaths, &t->bytes, &used) != 5 ||
        used == 0)
        return;
    for (char *at = line + used; *at == ' ' && t->depth < 256;)
        t->stack[t->depth++] = strtoul(at, &at, 16);
    run->count++;
}

static void meddle(const struct run *run, meanwhile_fn *meanwhile)
{
    char path[120];
    snprintf(path, sizeof path, "%s/tape.%d.0", tapes, (int)run->pid);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    void *head = mmap(NULL, sizeof(struct tt_tape_head), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(head != MAP_FAILED);
    close(fd);
    meanwhile(head);
    munmap(head, sizeof(struct tt_tape_head));
}

/* The recorder's heartbeat, an hour ahead, in each tape that comes: without one the agent goes
 * quiet after ten seconds, which a fixture may take where little processor time is left for it. */
static _Atomic int heart_stops;

static void *beat(void *arg)
{
    (void)arg;
    while (!heart_stops) {
        DIR *dir = opendir(tapes);
        for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
            struct timespec now;
            char path[400];
            snprintf(path, sizeof path, "%s/%s", tapes, e->d_name);
            int fd = strncmp(e->d_name, "tape.", 5) == 0 ? open(path, O_WRONLY) : -1;
            clock_gettime(CLOCK_BOOTTIME, &now);
            uint64_t ahead = ((uint64_t)now.tv_sec + 3600) * 1000000000ULL;
            if (fd >= 0 && pwrite(fd, &ahead, sizeof ahead,
                                  offsetof(struct tt_tape_head, heartbeat_ns)) != sizeof ahead)
                heart_stops = 1;
            if (fd >= 0)
                close(fd);
        }
        if (dir)
            closedir(dir);
        usleep(1000);
    }
    return NULL;
}

void run_meddling(struct run *run, const char *conf, const char *what, meanwhile_fn *meanwhile)
{
    int in[2], out[2];
    char line[8192];
    pthread_t heart;
    memset(run, 0, sizeof *run);
    clear_tapes();
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    run->pid = fork();
    assert_true(run->pid >= 0);
    if (run->pid == 0) {
        char program[320], library[320];
        build_path(program, sizeof program, "tests/fixtures/fixture_agent_truth");
        build_path(library, sizeof library, "src/agent/libtelltale-agent.so");
        setenv("LD_PRELOAD", library, 1);
        setenv(TT_TAPE_ENV_DIR, tapes, 1);
        setenv(TT_TAPE_ENV_CONF, conf, 1);
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[1]);
        struct rlimit limit = {address_space, address_space};
        setrlimit(RLIMIT_AS, &limit); /* last: under a sanitizer nothing can be allocated then */
        execl(program, program, what, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    FILE *text = fdopen(out[0], "r");
    assert_non_null(text);
    heart_stops = meanwhile != NULL; /* it is the recorder then */
    assert_int_equal(pthread_create(&heart, NULL, beat, NULL), 0);
    while (fgets(line, sizeof line, text)) {
        if (meanwhile && strcmp(line, "ready\n") == 0) {
            meddle(run, meanwhile);
            assert_int_equal(write(in[1], "\n", 1), 1);
        }
        read_truth(run, line);
    }
    fclose(text);
    close(in[1]);
    assert_int_equal(waitpid(run->pid, &run->status, 0), run->pid);
    heart_stops = 1;
    pthread_join(heart, NULL);
    assert_int_equal(run->status, 0);
}

void run_fixture(struct run *run, const char *conf, const char *what)
{
    run_meddling(run, conf, what, NULL);
}

int same_stack(const struct tape *tape, const struct run *run, uint32_t site, const struct truth *t)
{
    const struct tt_tape_site *s = &tape->sites[site];
    const uint64_t *pc = &tape->frames[s->frames];
    if (s->depth == 0 || s->flags & TT_SITE_RELEASE || pc[0] <= t->function ||
        pc[0] > t->function + 400)
        return 0;
    for (unsigned i = 0; i < run->count; i++) /* not another function's */
        if (run->truth[i].function > t->function && run->truth[i].function < pc[0])
            return 0;
    if (t->depth == 0)
        return 1;
    unsigned depth = s->depth - 1u;
    if (!(s->flags & TT_SITE_CUT) && depth != t->depth)
        return 0;
    for (unsigned i = 0; i < depth; i++)
        if (i >= t->depth || pc[i + 1] - t->stack[i] > 1)
            return 0;
    return 1;
}

void tape_of(const struct run *run, struct tape *tape, double mean)
{
    char name[40];
    snprintf(name, sizeof name, "tape.%d.0", (int)run->pid);
    open_tape(tape, name, mean);
    assert_int_equal(tape->head->pid, run->pid);
}
