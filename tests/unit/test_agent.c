/* SPDX-License-Identifier: Apache-2.0 */
/* The agent against ground truth: starts the fixture agent_truth under LD_PRELOAD in each mode,
 * reads the tape it left, and compares sites, stacks, births, deaths and live entries with what the
 * fixture printed about itself. Estimates of the thinning modes must lie within 4 standard errors;
 * the agent's sampler is seeded. Also proves that the core needs no loader. The programs lie beside
 * this one in the build tree. Start: check_exact. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <time.h>
#include <pthread.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tape/tape.h"

static char build[256]; /* top of the build tree */
static char tapes[64];  /* directory of tapes, emptied for each run */

/* ---- reading a tape ---- */

struct total {
    long births, deaths, live;
    double bytes;
    double estimate, variance; /* of the live units by 1/p, sampled mode with `mean` */
};
struct tape {
    const uint8_t *base;
    size_t bytes;
    const struct tt_tape_head *head;
    const struct tt_tape_site *sites;
    const uint64_t *frames;
    struct total *total; /* per site */
    long foreign;
};

static void open_tape(struct tape *t, const char *name, double mean)
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

static void close_tape(struct tape *t)
{
    free(t->total);
    munmap((void *)(uintptr_t)t->base, t->bytes);
}

/* ---- running the fixture ---- */

struct truth {
    char name[40];
    uint64_t function, stack[256];
    long births, deaths, bytes;
    unsigned depth;
};
struct run {
    struct truth truth[16];
    unsigned count;
    pid_t pid;
    int status;
};

static void clear_tapes(void)
{
    DIR *dir = opendir(tapes);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        if (e->d_name[0] == 't')
            unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
}

static unsigned count_tapes(void)
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

/* What the test does to the head of the tape, as a recorder would, while the fixture waits. */
typedef void meanwhile_fn(struct tt_tape_head *head);

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

static rlim_t address_space = RLIM_INFINITY; /* of the fixture */

static void run_meddling(struct run *run, const char *conf, const char *what,
                         meanwhile_fn *meanwhile)
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
        snprintf(program, sizeof program, "%s/tests/fixtures/fixture_agent_truth", build);
        snprintf(library, sizeof library, "%s/src/agent/libtelltale-agent.so", build);
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

static void run_fixture(struct run *run, const char *conf, const char *what)
{
    run_meddling(run, conf, what, NULL);
}

/* Whether a site's stack is that of the truth: the innermost frame inside the function, the others
 * as backtrace() saw them (after a signal frame it names the instruction, the agent the byte
 * behind its first). A cut stack is compared as far as it goes. */
static int same_stack(const struct tape *tape, const struct run *run, uint32_t site,
                      const struct truth *t)
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

static void tape_of(const struct run *run, struct tape *tape, double mean)
{
    char name[40];
    snprintf(name, sizeof name, "tape.%d.0", (int)run->pid);
    open_tape(tape, name, mean);
    assert_int_equal(tape->head->pid, run->pid);
}

/* ---- exact ---- */

static void check_exact(const char *what)
{
    struct run run;
    struct tape tape;
    run_fixture(&run, "mode=exact", what);
    tape_of(&run, &tape, 0);
    assert_int_equal(tape.head->mode, TT_MODE_EXACT);
    assert_int_equal(tape.head->dropped[TT_DROP_REGIONS], 0);
    assert_int_equal(tape.head->dropped[TT_DROP_CUT_UNWIND], 0);
    assert_true(run.count > 0);
    for (unsigned k = 0; k < run.count; k++) {
        struct total sum = {0};
        const struct truth *t = &run.truth[k];
        for (uint32_t i = 1; i < tape.head->site_count; i++)
            if (same_stack(&tape, &run, i, t)) {
                sum.births += tape.total[i].births;
                sum.deaths += tape.total[i].deaths;
                sum.bytes += tape.total[i].bytes;
            }
        if (sum.births != t->births)
            print_error("%s: site %s\n", what, t->name);
        assert_int_equal(sum.births, t->births);
        assert_int_equal(sum.deaths, t->deaths);
        assert_int_equal((long)sum.bytes, t->bytes);
    }
    close_tape(&tape);
}

static void exact_follows_every_block(void **state)
{
    (void)state;
    check_exact("counts");
    check_exact("family");
}
static void little_address_space(void **state)
{
    struct run run;
    struct tape tape;
    (void)state;
    address_space = 512u << 20;
    check_exact("counts");
    check_exact("threads");
    run_fixture(&run, "mode=sampled,mean=64,seed=5", "counts");
    tape_of(&run, &tape, 64);
    assert_int_equal(tape.head->state, TT_STATE_ENDED);
    assert_true(tape.head->site_count > 2);
    close_tape(&tape);
    address_space = 256u << 20;
    run_fixture(&run, "mode=exact", "counts");
    tape_of(&run, &tape, 0);
    assert_int_equal(tape.head->state, TT_STATE_REFUSED);
    close_tape(&tape);
    address_space = RLIM_INFINITY;
}
static void exact_counts_realloc_as_death_and_birth(void **state)
{
    (void)state;
    check_exact("resizes");
    check_exact("growth");
}
static void exact_stacks_equal_backtrace(void **state)
{
    (void)state;
    check_exact("recursion");
    check_exact("signals");
}
static void exact_survives_jumps_and_coroutines(void **state)
{
    (void)state;
    check_exact("jumps");
    check_exact("coroutines");
}
static void handlers_inside_the_agent_do_no_harm(void **state)
{
    static const char *const conf[] = {"mode=exact", "mode=sampled,mean=200,seed=2",
                                       "mode=adaptive,seed=2"};
    (void)state;
    check_exact("interrupts");
    /* Leaving by longjmp may lose the count of the call left, nothing else. */
    for (unsigned i = 0; i < 3; i++) {
        struct run run;
        run_fixture(&run, conf[i], "escapes");
    }
}
static void exact_counts_across_threads(void **state)
{
    struct run run;
    struct tape tape;
    (void)state;
    check_exact("threads");
    /* Ended threads give their state back: their slots stay few. */
    run_fixture(&run, "mode=exact", "threads");
    tape_of(&run, &tape, 0);
    assert_true(tape.head->thread_count < 500);
    close_tape(&tape);
}
static void exact_needs_no_descriptor(void **state)
{
    (void)state;
    check_exact("closes");
}

/* ---- children ---- */

static void children_have_tapes_of_their_own(void **state)
{
    (void)state;
    check_exact("forks");
    assert_int_equal(count_tapes(), 21);
    DIR *dir = opendir(tapes);
    unsigned children = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        struct tape tape;
        if (e->d_name[0] != 't')
            continue;
        open_tape(&tape, e->d_name, 0);
        if (tape.head->parent != (uint32_t)getpid()) {
            long births = 0, deaths = 0;
            for (uint32_t i = 1; i < tape.head->site_count; i++) {
                births += tape.total[i].births;
                deaths += tape.total[i].deaths;
            }
            assert_int_equal(births, 3);
            assert_int_equal(deaths, 1);
            children++;
        }
        close_tape(&tape);
    }
    closedir(dir);
    assert_int_equal(children, 20);
}

static void child_without_tape_is_counted(void **state)
{
    struct run run;
    struct tape tape;
    (void)state;
    if (geteuid() != 0)
        skip();
    run_fixture(&run, "mode=exact", "dropped");
    tape_of(&run, &tape, 0);
    assert_int_equal(tape.head->dropped[TT_DROP_CHILDREN], 1);
    assert_int_equal(count_tapes(), 1);
    close_tape(&tape);
}

static void follow_0_leaves_children_alone(void **state)
{
    struct run run;
    (void)state;
    run_fixture(&run, "mode=exact,follow=0", "forks");
    assert_int_equal(count_tapes(), 1);
}

/* ---- sampled ---- */

#define MEAN 4096.0

/* Sum over the sites of a truth. */
static struct total sum_sites(const struct tape *tape, const struct run *run, const struct truth *t)
{
    struct total sum = {0};
    for (uint32_t i = 1; i < tape->head->site_count; i++)
        if (same_stack(tape, run, i, t)) {
            sum.births += tape->total[i].births;
            sum.live += tape->total[i].live;
            sum.estimate += tape->total[i].estimate;
            sum.variance += tape->total[i].variance;
        }
    return sum;
}

static void within(double seen, double wanted, double variance)
{
    double sigma = sqrt(variance);
    if (fabs(seen - wanted) > 4 * sigma)
        print_error("%g, expected %g, sigma %g\n", seen, wanted, sigma);
    assert_true(fabs(seen - wanted) <= 4 * sigma);
}

static void sampled_is_unbiased(void **state)
{
    struct run run;
    struct tape tape;
    (void)state;
    run_fixture(&run, "mode=sampled,mean=4096,seed=7", "counts");
    tape_of(&run, &tape, MEAN);
    struct total sum = sum_sites(&tape, &run, &run.truth[0]);
    double p = 0;
    for (int size = 1; size <= 2000; size++) /* the fixture's sizes are uniform */
        p += -expm1(-size / MEAN) / 2000;
    double n = (double)run.truth[0].births;
    within((double)sum.births, n * p, n * p * (1 - p));
    within(sum.estimate, (double)(run.truth[0].births - run.truth[0].deaths), sum.variance);
    close_tape(&tape);
}

/* Each unit of a realloc chain is taken with the probability of its own size. */
static void sampled_realloc_is_unbiased(void **state)
{
    struct run run;
    struct tape tape;
    (void)state;
    run_fixture(&run, "mode=sampled,mean=4096,seed=11", "growth");
    tape_of(&run, &tape, MEAN);
    struct total sum = sum_sites(&tape, &run, &run.truth[0]);
    double expected = 0, variance = 0;
    for (int k = 1; k < 40; k++) {
        double p = -expm1(-(k <= 20 ? k : 40 - k) * 100 / MEAN);
        expected += 10000 * p;
        variance += 10000 * p * (1 - p);
    }
    within((double)sum.births, expected, variance * 39 / 2); /* units of a chain hang together */
    close_tape(&tape);
}

static void sampled_keeps_contents_and_children(void **state)
{
    static const char *const what[] = {"family",     "resizes", "recursion", "signals", "jumps",
                                       "coroutines", "threads", "forks",     "closes"};
    static const char *const conf[] = {"mode=sampled,mean=100,seed=3", "mode=adaptive,seed=3"};
    (void)state;
    for (unsigned c = 0; c < 2; c++)
        for (unsigned i = 0; i < sizeof what / sizeof what[0]; i++) {
            struct run run;
            struct tape tape;
            run_fixture(&run, conf[c], what[i]);
            tape_of(&run, &tape, 0); /* checks its sums */
            close_tape(&tape);
        }
}

/* ---- adaptive ---- */

static void check_adaptive(const char *conf, const char *what, double chain)
{
    struct run run;
    struct tape tape;
    run_fixture(&run, conf, what);
    tape_of(&run, &tape, 0);
    assert_int_equal(tape.head->mode, TT_MODE_ADAPTIVE);
    double births = 0, births_variance = 0, live = 0, live_variance = 0;
    for (uint32_t i = 1; i < tape.head->site_count; i++)
        if (same_stack(&tape, &run, i, &run.truth[0])) {
            double w = (double)(1ULL << tape.sites[i].thin);
            births += w * (double)tape.total[i].births;
            births_variance += w * (w - 1) * (double)tape.total[i].births;
            live += w * (double)tape.total[i].live;
            live_variance += w * (w - 1) * (double)tape.total[i].live;
        }
    within(births, (double)run.truth[0].births, births_variance * chain);
    within(live, (double)(run.truth[0].births - run.truth[0].deaths), live_variance);
    close_tape(&tape);
}

static void adaptive_is_unbiased(void **state)
{
    (void)state;
    check_adaptive("mode=adaptive,rate=200,seed=5", "counts", 1);
    check_adaptive("mode=adaptive,rate=1000,seed=6", "counts", 1);
    check_adaptive("mode=adaptive,rate=200,seed=5", "growth", 39); /* taken or passed as a whole */
}

/* ---- under a recorder ---- */

static void tick_on(struct tt_tape_head *head)
{
    head->now_tick = 100;
}

static void ages_and_release_stacks(void **state)
{
    struct run run;
    struct tape tape;
    (void)state;
    run_meddling(&run, "mode=exact", "phases", tick_on);
    tape_of(&run, &tape, 0);
    uint32_t site = 1;
    while (site < tape.head->site_count && !same_stack(&tape, &run, site, &run.truth[0]))
        site++;
    assert_true(site < tape.head->site_count);
    assert_int_equal(tape.sites[site].deaths[tt_tape_bin(100)], 60);
    assert_int_equal(tape.total[site].births, 100);
    /* The first 8 releases are sampled, then one in 64: 8 + 0 of 60. */
    const struct tt_tape_release *ring = (const void *)(tape.base + TT_TAPE_OFF_RING);
    unsigned samples = 0;
    for (uint32_t i = 0; i < tape.head->ring_head; i++) {
        assert_int_equal(ring[i].ready, i + 1);
        if (ring[i].site != site)
            continue;
        samples++;
        assert_int_equal(ring[i].age, 100);
        assert_int_equal(ring[i].tick, 100);
        assert_int_equal(ring[i].size, 48);
        assert_int_equal(ring[i].weight, 1);
        assert_true(ring[i].by < tape.head->site_count);
        assert_true(tape.sites[ring[i].by].flags & TT_SITE_RELEASE);
    }
    assert_int_equal(samples, 8);
    close_tape(&tape);
}

static void ask_for_quiet(struct tt_tape_head *head)
{
    head->want_quiet = 1;
}
static void stop_the_heart(struct tt_tape_head *head)
{
    head->start_ns -= 11000000000ULL; /* nobody ever beat, and it started 11 s ago */
}

static void goes_quiet(void **state)
{
    static meanwhile_fn *const why[] = {ask_for_quiet, stop_the_heart};
    static const char *const conf[] = {"mode=exact", "mode=sampled,mean=1,seed=9", "mode=adaptive"};
    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        struct run run;
        run_meddling(&run, conf[i / 2], "phases", why[i % 2]);
        char path[120];
        struct tt_tape_head head;
        snprintf(path, sizeof path, "%s/tape.%d.0", tapes, (int)run.pid);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        assert_int_equal(fread(&head, sizeof head, 1, f), 1);
        fclose(f);
        assert_int_equal(head.state, TT_STATE_QUIET);
    }
}

static void without_configuration_nothing_is_recorded(void **state)
{
    struct run run;
    (void)state;
    run_fixture(&run, "mode=nonsense", "counts");
    assert_int_equal(count_tapes(), 0);
}

/* ---- the core stands alone ---- */

static void core_needs_no_loader(void **state)
{
    char path[320];
    struct stat st;
    (void)state;
    snprintf(path, sizeof path, "%s/src/agent/libtelltale-core.so", build);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    const uint8_t *base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_true(base != MAP_FAILED);
    close(fd);
    const Elf64_Ehdr *e = (const void *)base;
    const Elf64_Phdr *segment = (const void *)(base + e->e_phoff);
    const Elf64_Shdr *section = (const void *)(base + e->e_shoff);
    for (unsigned i = 0; i < e->e_phnum; i++)
        assert_true(segment[i].p_type != PT_TLS);
    for (unsigned i = 0; i < e->e_shnum; i++) {
        if (section[i].sh_type == SHT_RELA || section[i].sh_type == SHT_REL)
            assert_int_equal(section[i].sh_size, 0);
        if (section[i].sh_type != SHT_SYMTAB && section[i].sh_type != SHT_DYNSYM)
            continue;
        const Elf64_Sym *symbol = (const void *)(base + section[i].sh_offset);
        for (unsigned k = 1; k < section[i].sh_size / sizeof *symbol; k++)
            assert_true(symbol[k].st_shndx != SHN_UNDEF);
    }
    munmap((void *)(uintptr_t)base, (size_t)st.st_size);
}

static int set_up(void **state)
{
    (void)state;
    ssize_t n = readlink("/proc/self/exe", build, sizeof build - 1);
    if (n <= 0)
        return -1;
    build[n] = 0;
    for (int up = 0; up < 3; up++) { /* tests/unit/test_agent */
        char *slash = strrchr(build, '/');
        if (!slash)
            return -1;
        *slash = 0;
    }
    strcpy(tapes,
           access("/dev/shm", W_OK) == 0 ? "/dev/shm/test_agent.XXXXXX" : "/tmp/test_agent.XXXXXX");
    return mkdtemp(tapes) && chmod(tapes, 0700) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    clear_tapes();
    return rmdir(tapes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_follows_every_block),
        cmocka_unit_test(little_address_space),
        cmocka_unit_test(exact_counts_realloc_as_death_and_birth),
        cmocka_unit_test(exact_stacks_equal_backtrace),
        cmocka_unit_test(exact_survives_jumps_and_coroutines),
        cmocka_unit_test(handlers_inside_the_agent_do_no_harm),
        cmocka_unit_test(exact_counts_across_threads),
        cmocka_unit_test(exact_needs_no_descriptor),
        cmocka_unit_test(children_have_tapes_of_their_own),
        cmocka_unit_test(child_without_tape_is_counted),
        cmocka_unit_test(follow_0_leaves_children_alone),
        cmocka_unit_test(sampled_is_unbiased),
        cmocka_unit_test(sampled_realloc_is_unbiased),
        cmocka_unit_test(sampled_keeps_contents_and_children),
        cmocka_unit_test(adaptive_is_unbiased),
        cmocka_unit_test(ages_and_release_stacks),
        cmocka_unit_test(goes_quiet),
        cmocka_unit_test(without_configuration_nothing_is_recorded),
        cmocka_unit_test(core_needs_no_loader),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
