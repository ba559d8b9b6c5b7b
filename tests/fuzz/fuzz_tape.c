/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a tape. A tape is a sparse file of gigabytes, so an input is a list of patches: part
 * (1 byte), offset in the part / 8 (3 bytes), length (1 byte), bytes. Everything the recorder reads
 * of a tape is read, and rows are written from it into a session, which then must be a valid one.
 * Start: LLVMFuzzerTestOneInput. */
#include <fcntl.h>
#include <unistd.h>

#include "../unit/test_record_fake.h"
#include "fuzz.h"

static const uint64_t parts[] = {
    TT_TAPE_OFF_HEAD,
    TT_TAPE_OFF_RING,
    TT_TAPE_OFF_BIG,
    TT_TAPE_OFF_THREADS,
    TT_TAPE_OFF_SITES,
    TT_TAPE_OFF_FRAMES,
    TT_TAPE_OFF_SHADOW,
    offsetof(struct tt_tape_head, now_tick),
    offsetof(struct tt_tape_head, site_count),
    offsetof(struct tt_tape_head, regions),
};
#define PARTS (sizeof parts / sizeof *parts)
#define PATCH 5u

static void patch(int fd, const uint8_t *data, size_t n)
{
    for (size_t at = 0; at + PATCH <= n;) {
        const uint8_t *p = data + at;
        uint64_t to = parts[p[0] % PARTS] +
                      8ull * ((uint32_t)p[1] | (uint32_t)p[2] << 8 | (uint32_t)(p[3] & 0x0f) << 16);
        size_t len = p[4] < n - at - PATCH ? p[4] : n - at - PATCH;
        fake_put(fd, to, p + PATCH, len);
        at += PATCH + len;
    }
}

static void count_entry(void *arg, uint64_t address, const struct tt_shadow_entry *entry)
{
    (void)address;
    *(uint64_t *)arg += entry->size != 0;
}

static void record(int fd)
{
    static char path[64];
    snprintf(path, sizeof path, "/dev/shm/tt-fuzz-tape-%d.tt", (int)getpid());
    char *argv[] = {"fuzz", NULL};
    struct tt_record_options options = {.argv = argv, .mode = TT_MODE_EXACT};
    struct tt_record_result result = {0};
    struct tt_error err = {0};
    struct tt_recorder rec = {.options = &options,
                              .result = &result,
                              .next_image = 1,
                              .dir_fd = -1,
                              .owner_fd = -1,
                              .origin_ns = 1,
                              .started_ns = 1};
    struct tt_image *image = calloc(1, sizeof *image);
    rec.writer = tt_session_create(path, &err);
    if (!image || !rec.writer || tt_vec_push(&rec.images, image))
        abort();
    image->tape.fd = fd;
    image->pid = 0x3ffffff; /* nobody */
    image->pidfd = image->mem_fd = -1;
    image->alive = true;
    tt_rows_start(&rec, 1);
    tt_image_settle(&rec, image);
    for (uint64_t visit = 1; visit < 3; visit++) {
        tt_image_read(&rec, image, visit * TT_SECOND, true);
        tt_rows_write(&rec, visit * TT_SECOND, false);
    }
    /* as the heap search sees it */
    struct tt_shadow shadow = {0};
    uint64_t n = 0;
    if (tt_tape_read_head(&image->tape) == 0 &&
        tt_shadow_copy(&shadow, &image->tape, TT_TAPE_TICK_MAX) == 0)
        tt_shadow_each(&shadow, 0, 1ULL << 40, count_entry, &n);
    tt_shadow_free(&shadow);
    if (image->alive)
        tt_image_end(&rec, image, "ended", 4 * TT_SECOND);
    tt_rows_finish(&rec, 5 * TT_SECOND, "fuzzed");
    tt_image_free(&rec, image);
    tt_vec_free(&rec.images);
    tt_vec_free(&rec.epochs);

    struct tt_session *s = tt_session_open(path, &err);
    tt_session_site_vec sites = {0};
    tt_session_survivor_vec survivors = {0};
    tt_session_process_vec processes = {0};
    if (!s || tt_session_processes(s, &processes, &err) || tt_session_sites(s, -1, &sites, &err) ||
        tt_session_survivors(s, -1, -1, &survivors, &err)) {
        fprintf(stderr, "the session is not valid: %s\n", err.text);
        abort();
    }
    for (size_t i = 0; i < sites.len && i < 64; i++) {
        tt_session_sample_vec series = {0};
        if (tt_session_series(s, sites.data[i].process, sites.data[i].id, &series, &err)) {
            fprintf(stderr, "the session is not valid: %s\n", err.text);
            abort();
        }
        tt_vec_free(&series);
    }
    tt_vec_free(&sites);
    tt_vec_free(&survivors);
    tt_vec_free(&processes);
    tt_session_close(s);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct tt_tape_head head = fake_start(50, 3);
    head.region_count = 2;
    head.regions[0] = 77;
    head.regions[1] = 5;
    head.big_count = 1;
    head.ring_head = 5;
    int fd = fake_make(&head);
    for (uint32_t i = 1; i < 50; i++) {
        struct tt_tape_site site = {
            .hash = i, .frames = i * 10, .depth = 10, .births = 100, .birth_bytes = 4000};
        site.deaths[i % TT_TAPE_BINS] = i;
        fake_site(fd, i, &site);
        fake_entry(fd, i % 2, i, tt_tape_entry(i, i % 7 ? 40 : 2 << 20, i));
        fake_tally(fd, i % 3, i, &(struct tt_tape_tally){i, 5, 2, 0, 200, 80});
    }
    for (uint32_t i = 0; i < 5; i++) {
        struct tt_tape_release r = {.ready = i + 1, .site = i, .by = 49 - i, .weight = 1};
        fake_put(fd, TT_TAPE_OFF_RING + i * sizeof r, &r, sizeof r);
    }
    patch(fd, data, n);
    record(fd); /* closes fd */
    return 0;
}

uint8_t *fuzz_example(unsigned k, size_t *n)
{
    /* patches at seeded places, mostly near the start of a part, where records lie */
    uint64_t x = 0x9e3779b97f4a7c15ULL * (k + 1);
    uint8_t *data = malloc(30 * (PATCH + 16));
    *n = 0;
    for (int i = 0; data && i < 30; i++) {
        uint8_t *p = data + *n;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[0] = (uint8_t)x;
        p[1] = (uint8_t)(x >> 8);
        p[2] = (uint8_t)(x >> 16 & (x >> 40 & 1 ? 0xff : 0x01));
        p[3] = (uint8_t)(x >> 41 & 7 ? 0 : x >> 24);
        p[4] = (uint8_t)(4 + (x >> 50) % 13);
        for (unsigned b = 0; b < p[4]; b++)
            p[PATCH + b] = (uint8_t)(x >> 44 & 1 ? 0xff : x >> (b * 3 % 56));
        *n += PATCH + p[4];
    }
    return data;
}
