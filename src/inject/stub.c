/* SPDX-License-Identifier: Apache-2.0 */
/* Stubs before functions, worked out while the target runs. Start: tt_stub_plan. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inject/stub.h"

#define STUB_ALIGN 64u
#define SCAN_FUNCTION (256u << 10)

static struct tt_inject_pad *pad_for(struct tt_inject_pad *pads, size_t n, uint64_t function)
{
    for (size_t i = 0; i < n; i++)
        if (pads[i].base &&
            pads[i].size - pads[i].used >= sizeof((struct tt_stub *)0)->code + STUB_ALIGN &&
            tt_load_reaches(function, pads[i].base + pads[i].used))
            return &pads[i];
    return NULL;
}

static void put_jump(uint8_t *at, uint64_t from, uint64_t to)
{
    int32_t rel = (int32_t)(int64_t)(to - (from + TT_STUB_BACK));
    at[0] = 0xe9;
    memcpy(at + 1, &rel, 4);
}

static int move(const uint8_t *code, uint64_t size, struct tt_stub *s, const char **why)
{
    size_t moved;
    int r = tt_relocate(code, size, s->function, s->at + s->head, s->code + s->head, &moved,
                        &s->taken, s->where, why);
    if (r)
        return r;
    *why = "a branch into the first instructions";
    if (tt_relocate_is_target(code, size, s->function, s->taken))
        return -EOPNOTSUPP;
    memcpy(s->original, code, sizeof s->original);
    s->len = s->head + moved + TT_STUB_BACK;
    put_jump(s->code + s->head + moved, s->at + s->head + moved, s->function + s->taken);
    put_jump(s->jump, s->function, s->at + s->enter);
    return 0;
}

/* Whether the stub that an earlier recording left for the function was made the same: then this is
 * it, and the pads last for any number of recordings. A thread may still be in its instructions. */
static bool again(const struct tt_target *target, const struct tt_load *load, const uint8_t *code,
                  uint64_t size, struct tt_stub *s)
{
    uint8_t there[sizeof s->code];
    const char *why;
    for (uint32_t i = 0; load && i < load->head.patch_count; i++) {
        const struct tt_blob_patch *r = &load->head.patch[i];
        if (r->active || r->address != s->function || r->entry != TT_LOAD_OPERATION)
            continue;
        s->at = r->real;
        return move(code, size, s, &why) == 0 &&
               tt_target_read(target, s->at, there, s->len) == 0 &&
               memcmp(there + s->head, s->code + s->head, s->len - s->head) == 0;
    }
    return false;
}

int tt_stub_plan(const struct tt_target *target, const struct tt_load *load,
                 struct tt_inject_pad *pads, size_t n_pads, uint64_t function, uint64_t size,
                 size_t head, size_t enter, struct tt_stub *out, const char **why)
{
    *out = (struct tt_stub){.function = function, .head = head, .enter = enter};
    *why = "its size is unknown, too small or too large";
    if (size < TT_RELOCATE_NEED || size > SCAN_FUNCTION)
        return -EOPNOTSUPP;
    uint8_t *code = malloc(size);
    *why = "out of memory";
    if (!code)
        return -ENOMEM;
    *why = "its code cannot be read";
    int r = tt_target_read(target, function, code, size);
    if (r == 0 && !again(target, load, code, size, out)) {
        struct tt_inject_pad *pad = pad_for(pads, n_pads, function);
        *why = "no pad within reach";
        out->at = pad ? pad->base + pad->used : 0;
        r = pad ? move(code, size, out, why) : -ENOSPC;
        if (r == 0)
            pad->used += (out->len + STUB_ALIGN - 1) & ~(size_t)(STUB_ALIGN - 1);
    }
    free(code);
    return r;
}

int tt_stub_write(const struct tt_target *target, struct tt_load *load, const struct tt_stub *stub)
{
    int code = 0;
    if (load) {
        struct tt_blob_patch r = {.address = stub->function,
                                  .length = TT_RELOCATE_NEED,
                                  .entry = TT_LOAD_OPERATION,
                                  .real = stub->at};
        memcpy(r.was, stub->original, sizeof stub->original);
        memcpy(r.is, stub->jump, sizeof stub->jump);
        code = tt_load_use(target, load, stub->at + stub->len);
        if (code == 0)
            code = tt_load_record(target, load, &r);
    }
    return code ? code : tt_target_write(target, stub->at, stub->code, stub->len);
}
