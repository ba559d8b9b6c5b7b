/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a recording: what it needs beside the tape (tape.c), the same again in a forked child or
 * in a process that runs already, and going quiet. Start: tt_agent_start. */
#include "agent/hook.h"
#include "agent/region.h"
#include "agent/watch.h"

#define QUIET_NS 10000000000ULL
#define GRACE_NS 2000000000ULL
#define AWAIT_NS 1000000000ULL
#define POOL_MOST 16384u
#define POOL_LEAST 64u
#define PAD_BYTES 0x10000u
#define DEAF_NS                                                                                    \
    1000000000ULL /* an exit does not wait for a recorder that said nothing for so long */

struct tt_agent tt_agent;

/* Reads an unsigned number at *at. */
static uint64_t number(const char **at)
{
    uint64_t v = 0;
    while (**at >= '0' && **at <= '9')
        v = v * 10 + (uint64_t)(*(*at)++ - '0');
    return v;
}

/* 1 and *at behind it if the text goes on with `word`. */
static int accept(const char **at, const char *word)
{
    const char *p = *at;
    for (; *word; word++, p++)
        if (*p != *word)
            return 0;
    *at = p;
    return 1;
}

int tt_conf_read(struct tt_conf *conf, const char *dir, const char *text)
{
    *conf = (struct tt_conf){.mode = TT_MODE_EXACT, .follow = 1, .rate = 8, .mean = 524288};
    if (!dir || !*dir)
        return -1;
    char *end = conf->dir + sizeof conf->dir;
    if (tt_text_put(conf->dir, end, dir) == end - 1)
        return -1;
    for (const char *at = text ? text : ""; *at;) {
        if (accept(&at, "mode=exact"))
            conf->mode = TT_MODE_EXACT;
        else if (accept(&at, "mode=sampled"))
            conf->mode = TT_MODE_SAMPLED;
        else if (accept(&at, "mode=adaptive"))
            conf->mode = TT_MODE_ADAPTIVE;
        else if (accept(&at, "mean="))
            conf->mean = number(&at);
        else if (accept(&at, "rate="))
            conf->rate = (uint32_t)number(&at);
        else if (accept(&at, "follow="))
            conf->follow = (uint16_t)number(&at);
        else if (accept(&at, "root="))
            conf->root = (uint32_t)number(&at);
        else if (accept(&at, "seed="))
            conf->seed = number(&at);
        else if (accept(&at, "origin="))
            conf->origin_ns = number(&at);
        else if (accept(&at, "last="))
            conf->last_ms = (uint16_t)number(&at);
        else
            return -1;
        if (*at == ',')
            at++;
        else if (*at)
            return -1;
    }
    if (conf->mean == 0)
        conf->mean = 1;
    if (conf->rate == 0)
        conf->rate = 1;
    return 0;
}

/* The word that a forked child finds wiped, however it was made. */
static int make_word(void)
{
    uint32_t *word = tt_sys_mmap(NULL, 4096, TT_PROT_RW, TT_MAP_PRIVATE | TT_MAP_ANONYMOUS, -1);
    if (tt_sys_bad(word))
        return -TT_ENOMEM;
    tt_sys_madvise(word, 4096, TT_MADV_WIPEONFORK); /* before 4.14: the atfork handler remains */
    tt_agent.alive = word;
    return 0;
}

static int make_pool(void)
{
    uint64_t limit = tt_sys_limit(TT_RLIMIT_AS);
    for (uint32_t n = POOL_MOST; n >= POOL_LEAST; n /= 2) {
        uint64_t bytes = (uint64_t)n * TT_THREAD_BYTES;
        if (bytes > limit / 16)
            continue;
        uint8_t *pool = tt_sys_mmap(NULL, bytes, TT_PROT_NONE,
                                    TT_MAP_PRIVATE | TT_MAP_ANONYMOUS | TT_MAP_NORESERVE, -1);
        if (!tt_sys_bad(pool)) {
            tt_sys_madvise(pool, bytes, TT_MADV_DONTDUMP);
            tt_agent.pool = pool;
            tt_agent.pool_limit = n;
            tt_agent.sweep_at = 64;
            tt_place_make();
            return 0;
        }
    }
    return -TT_ENOMEM;
}

/* A pad near `near` for stubs that the recorder may write. */
static uint64_t make_pad(uint64_t near)
{
    uint64_t at = near ? tt_maps_gap(near, PAD_BYTES) : 0;
    if (!at)
        return 0;
    void *pad = tt_sys_mmap(
        (void *)at, PAD_BYTES, TT_PROT_RX,
        TT_MAP_PRIVATE | TT_MAP_ANONYMOUS | TT_MAP_NORESERVE | TT_MAP_FIXED_NOREPLACE, -1);
    if (tt_sys_bad(pad))
        return 0;
    if ((uint64_t)pad != at) {
        tt_sys_munmap(pad, PAD_BYTES);
        return 0;
    }
    return at;
}

/* Without a thread's text, at a start. */
static int read_maps(void)
{
    char *text = tt_sys_mmap(NULL, TT_TEXT, TT_PROT_RW, TT_MAP_PRIVATE | TT_MAP_ANONYMOUS, -1);
    if (tt_sys_bad(text))
        return -1;
    int error = tt_maps_read(text);
    tt_sys_munmap(text, TT_TEXT);
    return error;
}

/* Before the large mappings, which would take the free places near the libraries. */
static void make_pads(uint64_t pads[2])
{
    pads[0] = pads[1] = 0;
    if (read_maps() != 0)
        return;
    pads[0] = make_pad(tt_agent.host.near_exe);
    pads[1] = make_pad(tt_agent.host.near_libc);
    tt_maps_drop();
}

static void point_entries(void)
{
    if (tt_agent.conf.mode != TT_MODE_EXACT)
        tt_hook_sample();
    else if (tt_agent.region)
        tt_hook_exact_beside();
    else
        tt_hook_exact();
    if (tt_agent.attached)
        tt_hook_attached();
}

/* Whether each system call leaves the processor's stack of return addresses full of the kernel's,
 * so that the returns after it are predicted wrongly: the way in which Linux keeps AMD's processors
 * from speculating there, its "Safe RET" (Documentation/admin-guide/hw-vuln/srso.rst), does. */
static uint32_t returns_lost(void)
{
    char text[64];
    uint64_t there, wanted;
    int fd = tt_sandboxed
                 ? -1
                 : tt_sys_open("/sys/devices/system/cpu/vulnerabilities/spec_rstack_overflow",
                               TT_O_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    long n = tt_sys_read(fd, text, sizeof text);
    tt_sys_close(fd);
    __builtin_memcpy(&wanted, "Safe RET", 8);
    for (long i = 0; i + 8 <= n; i++) {
        __builtin_memcpy(&there, text + i, 8);
        if (there == wanted)
            return 1;
    }
    return 0;
}

/* What a recording needs beside the tape; *reason is set when it cannot be had. */
static int equip(const char **reason)
{
    int error = 0;
    *reason = tt_tape_no_room;
    if ((!tt_agent.alive && (error = make_word()) != 0) ||
        (!tt_agent.pool && (error = make_pool()) != 0))
        return error;
    if (!tt_thread_get())
        return -TT_ENOMEM;
    tt_agent.returns_lost = returns_lost();
    if (tt_agent.conf.mode == TT_MODE_ADAPTIVE && (error = tt_adapt_make()) != 0)
        return error;
    if (tt_agent.conf.mode != TT_MODE_EXACT && (error = tt_region_make()) != 0 &&
        error != -TT_ENOMEM)
        *reason = "the address range of sampled objects at 0x600000000000 is not free: "
                  "use --mode exact";
    return error;
}

static void set_up(const struct tt_host *host, const struct tt_conf *conf)
{
    tt_agent.host = *host;
    tt_agent.conf = *conf;
    tt_agent.granule_shift = host->granule_shift;
    tt_agent.session++;
    if (tt_agent.conf.mean == 0)
        tt_agent.conf.mean = 1;
    if (tt_agent.conf.rate == 0)
        tt_agent.conf.rate = 1;
    if (tt_agent.conf.seed == 0)
        tt_agent.conf.seed = tt_sys_boottime_ns() ^ (uint64_t)tt_sys_getpid() << 32;
    tt_agent.window = 1;
    for (unsigned i = 0; i < TT_TAPE_DEPTH; i++)
        tt_agent.window *= TT_POLY;
}

static void record(const uint64_t pad[2], const uint64_t pad_size[2])
{
    tt_agent.head->pad_base = pad[0];
    tt_agent.head->pad2_base = pad[1];
    tt_agent.head->pad_size = pad[0] ? pad_size[0] : 0;
    tt_agent.head->pad2_size = pad[1] ? pad_size[1] : 0;
    tt_watch_begin();
    tt_agent.head->state = TT_STATE_RUNNING;
    __atomic_store_n(tt_agent.alive, 1, __ATOMIC_RELEASE);
    point_entries();
}

int tt_agent_start(const struct tt_host *host, const struct tt_conf *conf, const char *refuse)
{
    set_up(host, conf);
    uint64_t pads[2], sizes[2] = {PAD_BYTES, PAD_BYTES};
    make_pads(pads);
    int error = tt_tape_make(NULL, refuse ? TT_STATE_REFUSED : TT_STATE_EMPTY, refuse);
    if (error != 0 || refuse)
        return error != 0 ? error : -1;
    const char *reason;
    if ((error = equip(&reason)) != 0) {
        tt_tape_fill(tt_agent.head->pid, TT_STATE_REFUSED, reason);
        return error;
    }
    record(pads, sizes);
    return 0;
}

/* Keeps what operation stubs count into, with memory of this process's own. */
static void leave_head(void)
{
    tt_sys_mmap(tt_agent.base, TT_TAPE_OFF_RING, TT_PROT_RW,
                TT_MAP_PRIVATE | TT_MAP_ANONYMOUS | TT_MAP_NORESERVE | TT_MAP_FIXED, -1);
}

/* Only when no thread is inside the agent: what is held is held by nobody. */
static void open_locks(void)
{
    struct tt_lock open = {0};
    tt_agent.site_lock = tt_agent.shadow_lock = tt_agent.row_lock = open;
    tt_agent.thread_lock = tt_agent.region_lock = tt_agent.map_lock = open;
}

int tt_agent_attach(const struct tt_host *host, const struct tt_conf *conf, const uint64_t pad[2],
                    const uint64_t pad_size[2], int *fd, const char **why)
{
    uint8_t *at = tt_agent.base;
    tt_agent.attached = 1;
    open_locks();
    *fd = tt_tape_memory(TT_TAPE_FILE_BYTES(host->granule_shift));
    if (*fd < 0) {
        *why =
            *fd == -TT_EMFILE  ? "it has no descriptor left: raise RLIMIT_NOFILE (prlimit --nofile)"
            : *fd == -TT_EFBIG ? "no memory file can be made: raise RLIMIT_FSIZE (prlimit --fsize)"
                               : "no memory file can be made";
        return *fd;
    }
    if (at && host->granule_shift != tt_agent.granule_shift) {
        /* As the head, the slots of threads stay: one may stand in a stub that adds to its own. */
        tt_sys_munmap(at + TT_TAPE_OFF_RING, TT_TAPE_OFF_THREADS - TT_TAPE_OFF_RING);
        tt_sys_munmap(at + TT_TAPE_OFF_SITES, tt_agent.bytes - TT_TAPE_OFF_SITES);
        leave_head();
        at = NULL;
    }
    set_up(host, conf);
    *why = tt_tape_no_room;
    int error = tt_tape_use(*fd, at, TT_STATE_EMPTY, NULL);
    if (error == 0) {
        if (tt_agent.pool)
            tt_thread_again();
        tt_row_again();
        error = equip(why);
    }
    if (error == 0) {
        /* What the first calls of each thread would wait for, one behind the other. */
        read_maps();
        tt_thread_expect(tt_sys_threads());
        if (conf->mode == TT_MODE_EXACT)
            tt_live_expect();
        record(pad, pad_size);
    }
    return error;
}

uint64_t tt_agent_detach(void)
{
    tt_agent_pass();
    __atomic_store_n(tt_agent.alive, 3, __ATOMIC_RELEASE);
    __atomic_store_n(&tt_agent.head->state, TT_STATE_QUIET, __ATOMIC_RELEASE);
    return tt_region_rest();
}

static void give_back(uint64_t offset, uint64_t bytes)
{
    tt_sys_madvise(tt_agent.base + offset, (bytes + 0xfff) & ~0xfffULL, TT_MADV_REMOVE);
}

void tt_agent_forget(void)
{
    const struct tt_tape_head *h = tt_agent.head;
    const uint64_t tables[3] = {TT_TAPE_HASH0 * 8ULL, TT_TAPE_HASH1 * 8ULL, TT_TAPE_HASH2 * 8ULL};
    uint64_t hash = 0;
    for (uint32_t i = 0; i < 3 && i < tt_agent.hash_open; i++)
        hash += tables[i];
    give_back(TT_TAPE_OFF_SHADOW, h->region_count * TT_TAPE_REGION_BYTES(tt_agent.granule_shift));
    give_back(TT_TAPE_OFF_FRAMES, tt_agent.frames_open * 8ULL);
    give_back(TT_TAPE_OFF_SITES, tt_agent.sites_open * sizeof(struct tt_tape_site));
    give_back(TT_TAPE_OFF_THREADS, tt_agent.threads_open * sizeof(struct tt_tape_thread));
    give_back(TT_TAPE_OFF_L1, TT_TAPE_L1 * 8ULL);
    give_back(TT_TAPE_OFF_HEAD, TT_TAPE_OFF_HASH + hash);
}

void tt_agent_await(void)
{
    /* struct timespec; 100 us */
    const int64_t pause[2] = {0, 100000};
    uint64_t until = tt_sys_boottime_ns() + AWAIT_NS;
    while (__atomic_load_n(&tt_agent.head->heartbeat_ns, __ATOMIC_ACQUIRE) == 0 &&
           tt_sys_boottime_ns() < until)
        tt_sys(__NR_nanosleep, (long)pause, 0, 0, 0, 0, 0);
}

void tt_agent_exiting(void)
{
    struct tt_tape_head *h = tt_agent.head;
    const int64_t pause[2] = {0, 500000}; /* struct timespec */
    if (!tt_agent.conf.last_ms || !tt_agent_recording() || tt_sandboxed ||
        h->state != TT_STATE_RUNNING || h->pid != tt_sys_getpid() ||
        __atomic_exchange_n(&h->exiting, 1, __ATOMIC_RELEASE))
        return;
    /* The recorder watches the directory. */
    tt_sys(__NR_utimensat, TT_AT_FDCWD, (long)tt_agent.conf.dir, 0, 0, 0, 0);
    uint64_t now = tt_sys_boottime_ns(), until = now + tt_agent.conf.last_ms * 1000000ULL;
    while (!__atomic_load_n(&h->exit_go, __ATOMIC_ACQUIRE) && now < until &&
           now < __atomic_load_n(&h->heartbeat_ns, __ATOMIC_RELAXED) + DEAF_NS) {
        tt_sys(__NR_nanosleep, (long)pause, 0, 0, 0, 0, 0);
        now = tt_sys_boottime_ns();
    }
}

void tt_agent_pass(void)
{
    tt_watch_stop();
    if (tt_agent.region && (tt_agent.conf.mode != TT_MODE_EXACT || tt_region_held()))
        tt_hook_sample_quiet();
    else
        tt_hook_pass();
}

void tt_agent_look(void)
{
    struct tt_tape_head *h = tt_agent.head;
    uint32_t tick = tt_agent_tick();
    int quiet = __atomic_load_n(&h->want_quiet, __ATOMIC_RELAXED) != 0;
    if (!quiet && tick != tt_agent.clock_checked) { /* it ticks: somebody is there */
        tt_agent.clock_checked = tick;
        tt_agent.stale_since = 0;
        return;
    }
    if (!quiet && !tt_sandboxed) {
        uint64_t beat = __atomic_load_n(&h->heartbeat_ns, __ATOMIC_RELAXED);
        if (beat < h->start_ns)
            beat = h->start_ns;
        uint64_t now = tt_sys_boottime_ns();
        /* A stop of both sides (^Z, suspend) looks the same at first: give the recorder time to
         * tick again. */
        if (now > beat && now - beat > QUIET_NS) {
            if (!tt_agent.stale_since)
                tt_agent.stale_since = now;
            quiet = h->heartbeat_ns == 0 || now - tt_agent.stale_since > GRACE_NS;
        }
    }
    if (quiet && tt_agent_recording()) {
        tt_agent_pass();
        __atomic_store_n(&h->state, TT_STATE_QUIET, __ATOMIC_RELEASE);
    }
}

void tt_agent_forked(void)
{
    uint32_t wiped = 0;
    if (!tt_agent.alive || !__atomic_compare_exchange_n(tt_agent.alive, &wiped, 2, 0,
                                                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return;
    struct tt_thread *t = tt_arch_thread();
    int error = 0;
    /* Whoever held a lock may not be here. What the locks guard is sound at any instruction. */
    open_locks();
    /* A fork from a signal handler that interrupted the agent: its work is cut in the middle. */
    int torn = t && t->busy != 0;
    if (tt_agent.head->state != TT_STATE_RUNNING || !tt_agent.conf.follow || torn) {
        if (torn)
            tt_agent_drop(TT_DROP_CHILDREN);
        goto pass;
    }
    struct tt_tape_head *parent = tt_agent.head;
    uint64_t pads[4] = {parent->pad_base, parent->pad_size, parent->pad2_base, parent->pad2_size};
    uint64_t region[2] = {parent->region_base, parent->region_used};
    error = tt_tape_make(tt_agent.base, TT_STATE_RUNNING, NULL);
    if (error != 0) {
        tt_agent_drop(TT_DROP_CHILDREN); /* the parent's tape is still mapped */
        goto pass;
    }
    struct tt_tape_head *h = tt_agent.head;
    h->pad_base = pads[0];
    h->pad_size = pads[1];
    h->pad2_base = pads[2];
    h->pad2_size = pads[3];
    h->region_base = region[0];
    h->region_used = region[1];
    tt_agent.conf.seed ^= (uint64_t)h->pid << 32 ^ h->start_ns;
    tt_thread_forked(t);
    tt_watch_begin();
    __atomic_store_n(tt_agent.alive, 1, __ATOMIC_RELEASE);
    return;
pass:
    tt_agent_pass();
    leave_head();
    __atomic_store_n(tt_agent.alive, 3, __ATOMIC_RELEASE);
}
