// SPDX-License-Identifier: Apache-2.0
// A target of the soak (soak.py): threads that throw C++ exceptions through frames that allocate, and
// out of operator new itself (a new-handler that throws), so that unwinding passes hooked entries.
// Counters as in soaktarget.c. Ends well on SIGTERM with "ok". Start: main.
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <new>
#include <stdexcept>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

static std::atomic<bool> over;
static std::atomic<uint64_t> *counters;

struct thrown {
    std::string text;
    int depth;
};

static int dig(int depth, uint64_t key)
{
    std::vector<uint64_t> here(static_cast<size_t>(depth) * 3 + 1, key);
    std::string name = "depth " + std::to_string(depth) + " of a stack that will be thrown through";
    if (depth == 0)
        throw thrown{name, static_cast<int>(key & 0xff)};
    int got = dig(depth - 1, key);
    return got + static_cast<int>(here[0] + name.size());
}

static void work(unsigned index)
{
    uint64_t key = index + 1;
    while (!over) {
        key = key * 6364136223846793005ULL + 1442695040888963407ULL;
        try {
            dig(static_cast<int>(key >> 60), key);
            std::abort();
        } catch (const thrown &t) {
            if (t.depth != static_cast<int>(key & 0xff) || t.text.compare(0, 7, "depth 0") != 0)
                std::abort();
        }
        try { // more than there is: operator new calls the new-handler, which throws through it
            volatile size_t most = SIZE_MAX / 2;
            char *p = new char[most];
            p[0] = 1;
            std::abort();
        } catch (const std::bad_alloc &) {
        }
        counters[index]++;
    }
}

static void fail()
{
    throw std::bad_alloc();
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        std::fprintf(stderr, "usage: soakthrow THREADS COUNTERFILE\n");
        return 2;
    }
    unsigned n = static_cast<unsigned>(std::strtoul(argv[1], nullptr, 10));
    int fd = open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || n > 512 || ftruncate(fd, 4096) != 0)
        return 3;
    counters = static_cast<std::atomic<uint64_t> *>(
        mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    std::set_new_handler(fail);
    std::signal(SIGTERM, [](int) { over = true; });
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < n; i++)
        threads.emplace_back(work, i);
    std::printf("ready\n");
    std::fflush(stdout);
    for (auto &t : threads)
        t.join();
    std::printf("ok\n");
    return 0;
}
