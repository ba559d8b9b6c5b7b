/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching files by build-id. The client library is loaded only when somebody asked for it and
 * DEBUGINFOD_URLS is set: it brings an HTTP stack that nothing else here needs. A server that
 * could not be reached, or was given up, is not asked again. Start: tt_symbol_fetch. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <elfutils/debuginfod.h>

#include "base/clock.h"
#include "symbol/internal.h"

struct tt_symbol_client {
    void *library;
    debuginfod_client *handle;
    __typeof__(&debuginfod_find_debuginfo) find_debuginfo;
    __typeof__(&debuginfod_find_executable) find_executable;
    __typeof__(&debuginfod_get_user_data) get_user_data;
    __typeof__(&debuginfod_end) end;
    const struct tt_symbol_options *options;
    const char *module;
    uint64_t give_up_at;
    bool off;
};

/* debuginfod passes only its handle; the client hangs on it as user data, but the getter is behind
 * dlsym too, so it is kept here. */
static __typeof__(&debuginfod_get_user_data) user_data_of;

static int on_progress(debuginfod_client *handle, long have, long total)
{
    struct tt_symbol_client *client = user_data_of(handle);
    if (tt_clock_now() > client->give_up_at)
        return 1;
    if (!client->options->progress)
        return 0;
    return client->options->progress(client->options->progress_arg, client->module, have,
                                     total > 0 ? total : 0);
}

static struct tt_symbol_client *begin(const struct tt_symbol_options *options)
{
    struct tt_symbol_client *client = calloc(1, sizeof *client);
    if (!client)
        return NULL;
    client->options = options;
    client->off = true;
    client->library = dlopen(DEBUGINFOD_SONAME, RTLD_NOW | RTLD_LOCAL);
    if (!client->library)
        return client;
    __typeof__(&debuginfod_begin) start = dlsym(client->library, "debuginfod_begin");
    __typeof__(&debuginfod_set_user_data) set_user_data =
        dlsym(client->library, "debuginfod_set_user_data");
    __typeof__(&debuginfod_set_progressfn) set_progress =
        dlsym(client->library, "debuginfod_set_progressfn");
    client->find_debuginfo = dlsym(client->library, "debuginfod_find_debuginfo");
    client->find_executable = dlsym(client->library, "debuginfod_find_executable");
    user_data_of = dlsym(client->library, "debuginfod_get_user_data");
    client->end = dlsym(client->library, "debuginfod_end");
    if (!start || !set_user_data || !set_progress || !client->find_debuginfo ||
        !client->find_executable || !user_data_of || !client->end)
        return client;
    client->handle = start();
    if (!client->handle)
        return client;
    set_user_data(client->handle, client);
    set_progress(client->handle, on_progress);
    client->off = false;
    return client;
}

int tt_symbol_fetch(struct tt_symbols *symbols, const char *module, const char *build_id,
                    bool executable, char **path)
{
    const char *urls = getenv(DEBUGINFOD_URLS_ENV_VAR);
    if (!symbols->options.debuginfod || !urls || !*urls || !*build_id)
        return -1;
    if (!symbols->client)
        symbols->client = begin(&symbols->options);
    struct tt_symbol_client *client = symbols->client;
    if (!client || client->off)
        return -1;
    double seconds = symbols->options.debuginfod_seconds;
    client->module = module;
    client->give_up_at = tt_clock_now() + (uint64_t)((seconds > 0 ? seconds : 60) * 1e9);
    /* Length 0: the id is given in hex. */
    int fd = (executable ? client->find_executable : client->find_debuginfo)(
        client->handle, (const unsigned char *)build_id, 0, path);
    if (fd < 0 && fd != -ENOENT)
        client->off = true;
    return fd < 0 ? -1 : fd;
}

void tt_symbol_fetch_end(struct tt_symbols *symbols)
{
    struct tt_symbol_client *client = symbols->client;
    if (!client)
        return;
    if (client->handle)
        client->end(client->handle);
    /* The library stays loaded: curl's threads and atexit handlers do not survive dlclose. */
    free(client);
    symbols->client = NULL;
}
