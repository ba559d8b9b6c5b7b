/* SPDX-License-Identifier: Apache-2.0 */
/* The table of kinds. Start: tt_resources. */
#include "resource/resource.h"

#include <string.h>

#include "resource/kinds.h"

static const struct tt_resource *const kinds[] = {
    &tt_resource_fd,      &tt_resource_socket, &tt_resource_port,      &tt_resource_thread,
    &tt_resource_mapping, &tt_resource_child,  &tt_resource_timer,     &tt_resource_ipc,
    &tt_resource_library, &tt_resource_stream, &tt_resource_directory,
};
#define KINDS (sizeof kinds / sizeof *kinds)

const struct tt_resource *const *tt_resources(size_t *n)
{
    *n = KINDS;
    return kinds;
}

const struct tt_resource *tt_resource_named(const char *name)
{
    for (size_t i = 0; name && i < KINDS; i++)
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    return NULL;
}

const struct tt_resource *tt_resource_of(uint8_t kind)
{
    for (size_t i = 0; i < KINDS; i++)
        if (kinds[i]->kind == kind)
            return kinds[i];
    return NULL;
}

static int unknown(const char *word, size_t length, struct tt_error *err)
{
    return tt_error_set(
        err, -EINVAL,
        "no resource kind \"%.*s\": fd, socket, port, thread, mapping, child, timer, "
        "ipc, library, stream, directory, all or none",
        (int)length, word);
}

int tt_resource_choose(const char *text, uint32_t *set, struct tt_error *err)
{
    uint32_t all = (1u << KINDS) - 1, chosen = 0;
    bool first = true;
    while (*text) {
        size_t length = strcspn(text, ",");
        bool without = *text == '-';
        const char *word = text + without;
        size_t n = length - without;
        uint32_t bits = n == 3 && strncmp(word, "all", n) == 0 ? all : 0;
        bool none = n == 4 && strncmp(word, "none", n) == 0;
        for (size_t i = 0; !bits && i < KINDS; i++)
            if (strlen(kinds[i]->name) == n && strncmp(kinds[i]->name, word, n) == 0)
                bits = 1u << i;
        if (!bits && !none)
            return unknown(word, n, err);
        if (first && without)
            chosen = all;
        chosen = without ? chosen & ~bits : chosen | bits;
        first = false;
        text += length;
        text += *text == ',';
    }
    if (first)
        return unknown("", 0, err);
    *set = chosen;
    return 0;
}
