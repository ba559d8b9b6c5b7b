/* SPDX-License-Identifier: Apache-2.0 */
/* Names of calls, groups, errors and kinds, for the side of the controller.
 * Start: tt_fault_errors. */
#include <errno.h>
#include <netdb.h>
#include <string.h>

#include "fault/calls.h"
#include "fault/fault.h"

static const struct row {
    const char *name, *group, *usual, *others;
} rows[TT_FAULT_CALL_COUNT] = {
#define X(name, group, usual, others) {#name, #group, usual, others},
    TT_FAULT_CALLS(X)
#undef X
};

static const struct {
    const char *name;
    int code;
} codes[] = {
#define E(name)                                                                                    \
    {                                                                                              \
#name, name                                                                                \
    }
    E(EACCES),
    E(EADDRINUSE),
    E(EADDRNOTAVAIL),
    E(EAFNOSUPPORT),
    E(EAGAIN),
    E(EBUSY),
    E(ECANCELED),
    E(ECHILD),
    E(ECONNABORTED),
    E(ECONNREFUSED),
    E(ECONNRESET),
    E(EDOM),
    E(EDQUOT),
    E(EEXIST),
    E(EFAULT),
    E(EFBIG),
    E(EINTR),
    E(EINVAL),
    E(EIO),
    E(EISDIR),
    E(EMFILE),
    E(EMLINK),
    E(EMSGSIZE),
    E(ENETUNREACH),
    E(ENFILE),
    E(ENOBUFS),
    E(ENODEV),
    E(ENOENT),
    E(ENOLCK),
    E(ENOMEM),
    E(ENOPROTOOPT),
    E(ENOSPC),
    E(ENOTCONN),
    E(ENOTDIR),
    E(ENOTTY),
    E(EOPNOTSUPP),
    E(EOVERFLOW),
    E(EPERM),
    E(EPIPE),
    E(EROFS),
    E(ESPIPE),
    E(ETIMEDOUT),
    E(EWOULDBLOCK),
    E(EXDEV),
    E(EAI_AGAIN),
    E(EAI_FAIL),
    E(EAI_MEMORY),
    E(EAI_NONAME),
#undef E
    {"short", TT_FAULT_SHORT},
};

const char *tt_fault_call_name(unsigned call)
{
    return call < TT_FAULT_CALL_COUNT ? rows[call].name : "?";
}

const char *tt_fault_group_name(unsigned call)
{
    return call < TT_FAULT_CALL_COUNT ? rows[call].group : "?";
}

const char *tt_fault_kind_name(unsigned kind)
{
    static const char *const names[TT_FAULT_KINDS] = {
        "heap",    "fd",     "socket", "stream", "directory",
        "mapping", "thread", "child",  "timer",  "library",
    };
    return kind < TT_FAULT_KINDS ? names[kind] : "?";
}

const char *tt_fault_error_name(int code)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].code == code)
            return codes[i].name;
    return "?";
}

int tt_fault_error_code(const char *name)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcmp(codes[i].name, name) == 0)
            return codes[i].code;
    return 0;
}

static size_t parse(const char *list, int *out, size_t n, size_t max)
{
    while (*list) {
        char word[24];
        size_t length = strcspn(list, " ");
        if (length < sizeof word && n < max) {
            memcpy(word, list, length);
            word[length] = '\0';
            out[n] = tt_fault_error_code(word);
            n += out[n] != 0;
        }
        list += length + (list[length] == ' ');
    }
    return n;
}

size_t tt_fault_errors(unsigned call, int *out, size_t max, size_t *usual)
{
    if (call >= TT_FAULT_CALL_COUNT)
        return *usual = 0;
    *usual = parse(rows[call].usual, out, 0, max);
    return parse(rows[call].others, out, *usual, max);
}

bool tt_fault_call_known(const char *name)
{
    for (size_t i = 0; i < TT_FAULT_CALL_COUNT; i++)
        if (strcmp(rows[i].name, name) == 0 || strcmp(rows[i].group, name) == 0)
            return true;
    return false;
}
