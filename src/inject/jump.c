/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions that do nothing, left by a program for whoever wants to be told
 * (include/telltale.h), become jumps, and again nothing. One instruction of five bytes takes the
 * place of another, so no thread can stand within it; all stand still because processors may not
 * see half a change (Intel SDM 3A, 9.1.3). Start: tt_inject_jumps. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "inject/inject.h"
#include "inject/internal.h"

#define BYTES 5u
static const uint8_t nothing[BYTES] = {0x0f, 0x1f, 0x44, 0x00, 0x00};

/* What stands there, or is to stand there, once it is a jump. False: it does not reach. */
static bool make_jump(const struct tt_inject_jump *jump, uint8_t code[BYTES])
{
    int64_t distance = (int64_t)(jump->to - (jump->at + BYTES));
    int32_t near = (int32_t)distance;
    code[0] = 0xe9;
    memcpy(code + 1, &near, sizeof near);
    return near == distance;
}

static bool change(int mem, const struct tt_inject_jump *jump, bool on)
{
    uint8_t code[BYTES], there[BYTES];
    if (!make_jump(jump, code) || pread(mem, there, BYTES, (off_t)jump->at) != BYTES)
        return false;
    const uint8_t *from = on ? nothing : code, *to = on ? code : nothing;
    if (memcmp(there, to, BYTES) == 0)
        return true;
    return memcmp(there, from, BYTES) == 0 &&
           pwrite(mem, to, BYTES, (off_t)jump->at) == (ssize_t)BYTES;
}

int tt_inject_jumps(pid_t pid, struct tt_inject_jump *jumps, size_t n, bool on,
                    struct tt_error *err)
{
    char path[64];
    struct tt_stopped stopped;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    int mem = open(path, O_RDWR | O_CLOEXEC);
    if (mem < 0)
        return tt_error_sys(err, -errno, "cannot open the memory of process %d", (int)pid);
    int code = tt_inject_stop(pid, &stopped, err);
    for (size_t i = 0; !code && i < n; i++)
        jumps[i].done = change(mem, &jumps[i], on);
    if (!code)
        tt_inject_resume(&stopped);
    close(mem);
    return code;
}
