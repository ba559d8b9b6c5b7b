/* SPDX-License-Identifier: Apache-2.0 */
/* Names as people write them. libiberty is used because it alone reads C++, Rust legacy and Rust
 * v0 names, bounds its recursion on hostile input, and is a small static archive: the C++ library's
 * __cxa_demangle knows no Rust v0 and would have to be found on the machine that reads the
 * recording. Start: tt_symbol_demangle. */
#include <stdlib.h>
#include <string.h>

#include <libiberty/demangle.h>

#include "symbol/internal.h"

bool tt_symbol_is_mangled(const char *linkage)
{
    /* Only the prefixes of the Itanium C++ ABI and of Rust RFC 2603: the other styles that
     * libiberty knows would rewrite names of C. */
    return !strncmp(linkage, "_Z", 2) || !strncmp(linkage, "_R", 2);
}

char *tt_symbol_demangle(const char *linkage, bool parameters)
{
    if (tt_symbol_is_mangled(linkage)) {
        char *name =
            cplus_demangle(linkage, DMGL_AUTO | DMGL_ANSI | (parameters ? DMGL_PARAMS : 0));
        if (name)
            return name;
    }
    return strdup(linkage);
}

const char *tt_symbol_name(struct tt_symbols *symbols, const char *linkage)
{
    char *name = tt_symbol_demangle(linkage, false);
    if (!name) {
        symbols->out_of_memory = true;
        return "";
    }
    const char *kept = tt_symbol_intern(symbols, name);
    free(name);
    return kept;
}
