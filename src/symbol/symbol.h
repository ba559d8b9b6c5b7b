/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses to functions, files, lines and inlined frames; names to entry addresses; pcs to the
 * function around them. Works from the module list of a recording, so it also works later and on
 * another machine: a file is used only if it is the one that was recorded (build-id; size and time
 * where there is none). elfutils does the reading, one Dwfl per module, opened when an address
 * first falls into it. Not thread-safe: one thread per struct tt_symbols.
 * Start: tt_symbol_open, then tt_symbol_lookup. */
#ifndef TT_SYMBOL_SYMBOL_H
#define TT_SYMBOL_SYMBOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* One executable mapping of the target, as in /proc/PID/maps. Strings are copied by
 * tt_symbol_open. Where mappings overlap (dlclose, then dlopen at the same place) the later in the
 * list wins; a caller that knows times should pass only those alive at the time it asks about. */
struct tt_symbol_module {
    const char *path;     /* a trailing " (deleted)" is understood; "[vdso]" has no symbols */
    const char *build_id; /* lower-case hex; NULL or "" when the file has none */
    uint64_t start, end, file_offset;
    uint64_t file_size; /* 0 unknown; compared only when there is no build-id */
    int64_t mtime;      /* seconds, UTC; 0 unknown; compared only when there is no build-id */
};

/* How and where to search. All may be zero.
 * Order for the file itself: its path under sysroot if one is given, then its path; then
 * .build-id/xx/yyyy and .build-id/xx/yyyy.debug under the debug directories (sysroot/usr/lib/debug,
 * each debug path, /usr/lib/debug); then debuginfod. Order for separate debug information:
 * .build-id under the debug directories, .gnu_debuglink beside the file, in .debug/ and under the
 * debug directories, then debuginfod. Every candidate must carry the right build-id (or, for a
 * debuglink without one, the right CRC). .gnu_debugdata is used when nothing better is found. */
struct tt_symbol_options {
    const char *sysroot;
    const char *const
        *debug_paths; /* n_debug_paths directories with the layout of /usr/lib/debug */
    size_t n_debug_paths;
    /* Ask the servers of $DEBUGINFOD_URLS; without the variable nothing is asked, and the client
     * library is not even loaded. The recording side leaves this false. */
    bool debuginfod;
    double
        debuginfod_seconds; /* for one file; 0 = 60. A server that fails once is not asked again */
    /* Called about once a second while a file is fetched: which one, bytes so far, bytes in all (0
     * unknown). A result other than 0 gives up. May be NULL. */
    int (*progress)(void *arg, const char *module, long have, long total);
    void *progress_arg;
};

/* One frame. Strings live until tt_symbol_close and are never NULL. */
struct tt_symbol_frame {
    const char *function; /* demangled, without parameters and Rust hash; "" unknown */
    const char *module;   /* the recorded path; "" when no module holds the address */
    const char *file;     /* as the compiler recorded it, absolute when known; "" unknown */
    unsigned line;        /* 0 unknown */
    bool inlined;         /* this function was inlined into the next frame's */
    uint64_t offset;      /* address as objdump and addr2line count it in the module's file; the
                             address itself when no module holds it */
};

/* A function: where it is entered and how long it is. name lives until tt_symbol_close. */
struct tt_symbol_function {
    uint64_t entry, size; /* run-time address; size in bytes, 0 unknown */
    const char *name;     /* demangled, as in struct tt_symbol_frame */
    const char *linkage;  /* as in the symbol table */
    const char *module;
};

struct tt_symbols;

/* Takes a copy of modules; opens no file yet. NULL when out of memory (err says so). */
struct tt_symbols *tt_symbol_open(const struct tt_symbol_module *modules, size_t n,
                                  const struct tt_symbol_options *options, struct tt_error *err);
void tt_symbol_close(struct tt_symbols *symbols);

/* The frames of one address, innermost first: inlined ones and the function that really contains
 * it. is_return: the address is a return address, so the call before it is looked up (address - 1).
 * Always at least one frame: a module without symbols gives function "", an address in no module
 * gives module "". *frames is owned by symbols until tt_symbol_close; answers are cached.
 * 0 or -ENOMEM. */
int tt_symbol_lookup(struct tt_symbols *symbols, uint64_t address, bool is_return,
                     const struct tt_symbol_frame **frames, size_t *n);

/* The function around an address by the symbol table; an address in a function's cold part gives
 * the function. is_return as in tt_symbol_lookup. 0; -ENOENT when no symbol covers it; -ENOMEM. */
int tt_symbol_enclosing(struct tt_symbols *symbols, uint64_t address, bool is_return,
                        struct tt_symbol_function *out);

/* The one function of that name in all modules. name is the symbol's own name, the demangled name
 * without or with parameters, and may end in @WHERE to choose among several: WHERE is a module's
 * file name ("libfoo.so.1") or a source file's ("call.c"). 0; -ENOENT (absent; the message counts
 * the modules that have no symbols at all), -ENOTUNIQ (the message lists the candidates and how to
 * choose), -ENOMEM. */
int tt_symbol_find(struct tt_symbols *symbols, const char *name, struct tt_symbol_function *out,
                   struct tt_error *err);

/* What went wrong so far, about modules that were asked for: each line is one sentence for the
 * article's LOST DATA ("x changed since the recording (...): its frames have no names"). The array
 * and its lines are owned by symbols, valid until the next call of this room. */
const char *const *tt_symbol_warnings(struct tt_symbols *symbols, size_t *n);

/* Modules asked for so far, and of those: the file at the path is not the recorded one; nothing was
 * found to name functions with; functions have names but no lines. */
struct tt_symbol_stats {
    size_t modules, changed, nameless, lineless;
};
struct tt_symbol_stats tt_symbol_stats(const struct tt_symbols *symbols);

/* Demangles C++ and Rust (legacy and v0) names; parameters says whether to keep parameter lists.
 * Anything else comes back as it is. A new string the caller frees; NULL when out of memory. */
char *tt_symbol_demangle(const char *linkage, bool parameters);

#endif
