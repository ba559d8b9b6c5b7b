/* SPDX-License-Identifier: Apache-2.0 */
/* Handles of dlopen: the same library again gives the same handle, counted up. */
#include "pairs.h"

#include <dlfcn.h>

typedef void *library;
#define RESOURCE "library"
#define UNIT library

static PAIRS_OWN_FRAME void *loaded(const char *name, int flags)
{
    void *handle = dlopen(name, flags);
    if (!handle)
        pairs_failed("dlopen");
    return handle;
}

#define ACQUIRER dlopen
#define NEW_UNIT loaded("libc.so.6", RTLD_NOW)
#define END_UNIT(v) dlclose(v)
#define FLOWS FLOWS_ALL
#include "flows.inc"

#define ACQUIRER dlopen_lazy
#define NEW_UNIT loaded("libm.so.6", RTLD_LAZY | RTLD_LOCAL)
#define END_UNIT(v) dlclose(v)
#define ALSO "heap|mapping"
#define FLOWS FLOWS_CALLS | FLOWS_LIFE
#include "flows.inc"
