/* SPDX-License-Identifier: Apache-2.0 */
/* What makes a fuzz target run without libFuzzer: main replays every file of the directories named
 * on the command line, then tries seeded random mutations of the target's own examples. With
 * clang, -DTT_LIBFUZZER and -fsanitize=fuzzer,address leave main to libFuzzer.
 * A target defines LLVMFuzzerTestOneInput and fuzz_example. Start: fuzz_main. */
#ifndef TEST_FUZZ_H
#define TEST_FUZZ_H

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUZZ_MUTATIONS 400
#define FUZZ_BYTES_MAX (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* A valid input for seed k, malloc'd. */
uint8_t *fuzz_example(unsigned k, size_t *n);

#ifndef TT_LIBFUZZER
static uint64_t fuzz_state = 88172645463325252ULL;
static uint64_t fuzz_random(void)
{
    fuzz_state ^= fuzz_state << 13; /* xorshift64 (Marsaglia 2003) */
    fuzz_state ^= fuzz_state >> 7;
    return fuzz_state ^= fuzz_state << 17;
}

static void fuzz_replay(const char *name)
{
    DIR *dir = opendir(name);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", name, entry->d_name);
        FILE *f = entry->d_name[0] == '.' ? NULL : fopen(path, "rb");
        uint8_t *data = f ? malloc(FUZZ_BYTES_MAX) : NULL;
        if (data)
            LLVMFuzzerTestOneInput(data, fread(data, 1, FUZZ_BYTES_MAX, f));
        free(data);
        if (f)
            fclose(f);
    }
    closedir(dir);
}

/* A few bytes set to edge values, a stretch copied or zeroed, or the end cut off. */
static size_t fuzz_mutate(uint8_t *data, size_t n)
{
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff};
    for (unsigned times = 1 + (unsigned)(fuzz_random() % 8); times && n > 16; times--) {
        size_t at = fuzz_random() % (n - 8), from = fuzz_random() % (n - 8);
        switch (fuzz_random() % 6) {
        case 0:
            data[at] = (uint8_t)fuzz_random();
            break;
        case 1:
            data[at] = edges[fuzz_random() % 5];
            break;
        case 2:
            memset(data + at, edges[fuzz_random() % 5], 8);
            break;
        case 3:
            memmove(data + at, data + from, 8);
            break;
        case 4:
            data[at] ^= (uint8_t)(1u << (fuzz_random() % 8));
            break;
        default:
            if (fuzz_random() % 8 == 0)
                n = n - at > 8 ? n - at : n;
            break;
        }
    }
    return n;
}

static int fuzz_main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        fuzz_replay(argv[i]);
    for (unsigned i = 0; i < FUZZ_MUTATIONS; i++) {
        size_t n;
        uint8_t *data = fuzz_example(i, &n);
        if (!data) {
            fprintf(stderr, "no example could be made\n");
            return 1;
        }
        LLVMFuzzerTestOneInput(data, i % 16 ? fuzz_mutate(data, n) : n);
        free(data);
    }
    printf("%d mutations\n", FUZZ_MUTATIONS);
    return 0;
}

int main(int argc, char **argv)
{
    return fuzz_main(argc, argv);
}
#endif
#endif
