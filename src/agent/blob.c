/* SPDX-License-Identifier: Apache-2.0 */
/* The blob pack: takes the orders that inject left in tt_blob.call (blob.h). Runs on a stack of its
 * own on a thread that stood anywhere: no libc, nobody waited for. The struct itself is laid out in
 * blob_x86_64.S. Start: tt_blob_run. */
#include "agent/blob_wait.h"
#include "agent/region.h"

extern struct tt_blob tt_blob;
TT_HIDDEN void tt_blob_run(void);

/* Where the stubs that watch for seccomp filters go on. */
extern tt_real_fn *tt_blob_prctl TT_HIDDEN, *tt_blob_syscall TT_HIDDEN;
tt_real_fn *tt_blob_prctl, *tt_blob_syscall;

_Static_assert(offsetof(struct tt_blob, entry) == 16 &&
                   offsetof(struct tt_blob, entry_dlclose) == 16 + 4UL * TT_E_DLCLOSE &&
                   offsetof(struct tt_blob, enter) == 20 + 4UL * TT_E_DLCLOSE &&
                   offsetof(struct tt_blob, text_end) == 24 + 4UL * TT_E_DLCLOSE &&
                   offsetof(struct tt_blob, entry_syscall) == 32 + 4UL * TT_E_DLCLOSE &&
                   sizeof(struct tt_blob) == TT_BLOB_BYTES,
               "blob_x86_64.S knows these offsets");

static void say(struct tt_blob_call *c, const char *why)
{
    tt_text_put(c->why, c->why + sizeof c->why, why);
}

static int start(struct tt_blob_call *c)
{
    const char *why = NULL;
    for (uint32_t set = 0; set < TT_E_SETS; set++)
        for (uint32_t e = 0; e < TT_E_COUNT; e++)
            c->host.real[set * TT_E_COUNT + e] = c->real[set][e];
    c->host.real[TT_E_DLCLOSE] = c->real_dlclose;
    tt_blob_prctl = c->real_prctl;
    tt_blob_syscall = c->real_syscall;
    tt_sandboxed = 0; /* whoever asks for a start knows that its calls are allowed */
    int error = tt_agent_attach(&c->host, &c->conf, c->pad, c->pad_size, &c->tape_fd, &why);
    tt_sandboxed = c->sandboxed;
    if (error != 0 && why)
        say(c, why);
    return error;
}

/* Releases of glibc know sampled objects for mapped blocks of its own (region.h). */
static int pass(void)
{
    tt_blob.detached_live = 0;
    if (tt_agent.head && tt_agent.alive)
        tt_blob.detached_live = (uint32_t)tt_agent_detach();
    return 0;
}

static void run(struct tt_blob_call *c)
{
    c->why[0] = 0;
    c->tape_fd = -1;
    switch (c->what) {
    case TT_BLOB_START:
        c->result = start(c);
        break;
    case TT_BLOB_PASS:
        c->result = pass();
        break;
    case TT_BLOB_DROP:
        if (tt_agent.head && tt_agent.alive && !tt_agent_recording())
            tt_agent_forget();
        c->result = 0;
        break;
    default:
        c->result = -TT_EINVAL;
        say(c, "an order that this blob does not know");
    }
}

void tt_blob_run(void)
{
    struct tt_blob_call *c = &tt_blob.call;
    run(c);
    tt_blob_wait(c);
}
