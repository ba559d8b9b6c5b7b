#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Allocators other than glibc's, preloaded by the user: forwarded to, named in the session, every block followed (the last
look agrees with the counts), and the program's output is that of a bare run. A C++ program, since these libraries
define operator new themselves."""
import ctypes.util
import sqlite3
import sys

from harness import MODES, Test, run

t = Test("allocators", needs=["g++"])

SOURCE = """
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>
int main() {
    std::map<std::string, std::vector<int>> index;
    for (int i = 0; i < 20000; i++) {
        index[std::to_string(i % 997) + " padded beyond the small string"].push_back(i);
        void *small = malloc((size_t)(i % 40)), *odd = aligned_alloc(64, 192);
        small = realloc(small, (size_t)(i % 900) + 1);
        free(odd);
        free(small);
    }
    size_t sum = 0;
    for (auto &entry : index)
        sum = sum * 31 + entry.second.size() + entry.first.size();
    std::printf("%zu\\n", sum);
}
"""


def main():
    source, program = t.path("mix.cpp"), t.path("mix")
    source.write_text(SOURCE)
    if not t.check(run(["g++", "-O1", "-o", program, source])[0] == 0, "compiles"):
        return t.end()
    wanted = run([program])
    tried = 0
    for name in ("jemalloc", "tcmalloc_minimal", "mimalloc"):
        library = ctypes.util.find_library(name)
        if not library:
            print(f"skip {name}: not installed")
            continue
        tried += 1
        for mode in MODES:
            session = t.path(f"{name}-{mode}.tt")
            got = run(t.under(mode, session, [program], "--mean", "4096"), extra_env={"LD_PRELOAD": library})
            t.check(got == wanted, f"{name} {mode}: same output", got)
            db = sqlite3.connect(session)
            allocator, exact = db.execute("select p.allocator, l.consistent from process p "
                                          "join process_look l on l.process = p.id").fetchone()
            births = db.execute("select max(births) from site_sample").fetchone()[0]
            t.check(library.split(".")[0] in allocator, f"{name} {mode}: forwarded to it", allocator)
            t.check(exact == 1 and births and births > 10, f"{name} {mode}: every followed block accounted for", (exact, births))
    t.check(tried > 0, "at least one allocator was there")
    return t.end()


sys.exit(main())
