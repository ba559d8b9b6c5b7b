/* SPDX-License-Identifier: Apache-2.0 */
/* Where the stopped threads are and will return to. Code that is about to change must not be under
 * a thread, nor under a signal frame that returns into it; and the agent's state must not be
 * replaced while a thread is inside the agent. Stacks are read in one piece each, no more than
 * 64 KiB, and no further than their end where that is known: all threads stand still meanwhile.
 * Start: tt_stacks_look. */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "inject/internal.h"

#define SCAN_STACK (64u << 10)
#define CLEAR_PASSES 4
#define CLEAR_PAUSE_NS 500000L
#define THREAD_STACK_MOST (256ULL << 20)

/* struct rt_sigframe (remote.c): distance from the saved rip to the word with cs. */
#define WORDS_RIP_TO_CS 2

/* How much of a thread's stack there is. The thread control block (0: not known) lies at the end of
 * a thread's stack (glibc); the first thread's ends with its mapping. */
static size_t stack_bytes(const struct tt_target *t, uint64_t sp, uint64_t tcb)
{
    uint64_t end = sp + SCAN_STACK;
    const struct tt_proc_map *m;
    if (tcb > sp && tcb - sp < THREAD_STACK_MOST)
        end = tcb;
    else if ((m = tt_proc_map_at(&t->maps, sp)) != NULL)
        end = m->end;
    return end - sp < SCAN_STACK ? (size_t)(end - sp) : SCAN_STACK;
}

/* What is looked for. */
struct search {
    const struct tt_window *windows;
    size_t n, hits;
    unsigned where;
    uint64_t low, high; /* around all windows */
    bool *hit;
};

/* One thread, whose stack has `len` words and then WORDS_RIP_TO_CS that are zero. */
static void search_one(struct search *s, const struct user_regs_struct *regs, const uint64_t *words,
                       ssize_t len)
{
    for (ssize_t w = s->where & TT_LOOK_RIP ? -1 : 0; w < len; w++) {
        uint64_t word = w < 0 ? regs->rip : words[w];
        if (word - s->low >= s->high - s->low ||
            (w >= 0 && !(s->where & TT_LOOK_WORDS) &&
             (words[w + WORDS_RIP_TO_CS] & 0xffff) != regs->cs))
            continue;
        for (size_t k = 0; k < s->n; k++)
            if (word >= s->windows[k].from && word < s->windows[k].to && !s->hit[k]) {
                s->hit[k] = true;
                s->hits++;
            }
    }
}

#define BATCH 64u

/* The threads from `first` up to `end`. As many stacks as fit are read in one call: a call for each
 * would be most of the time for which a process with many threads stands still. */
static size_t look(const struct tt_target *target, const struct tt_stopped *stopped, size_t first,
                   size_t end, const struct tt_window *windows, size_t n, unsigned where, bool *hit)
{
    uint64_t words[SCAN_STACK / 8 + WORDS_RIP_TO_CS];
    const size_t room = sizeof words / sizeof *words;
    struct search s = {.windows = windows, .n = n, .where = where, .low = UINT64_MAX, .hit = hit};
    bool scan = (where & TT_LOOK_WORDS) || ((where & TT_LOOK_FRAMES) && target->handles);
    memset(hit, 0, n * sizeof *hit);
    for (size_t k = 0; k < n; k++) {
        s.low = windows[k].from < s.low ? windows[k].from : s.low;
        s.high = windows[k].to > s.high ? windows[k].to : s.high;
    }
    for (size_t i = first, count; i < end; i += count) {
        struct iovec from[BATCH], to[BATCH];
        size_t used = 0;
        for (count = 0; i + count < end && count < BATCH; count++) {
            const struct user_regs_struct *regs = &stopped->threads.data[i + count].regs;
            uint64_t sp = regs->rsp & ~7ULL;
            size_t len = scan ? stack_bytes(target, sp, regs->fs_base) / 8 : 0;
            if (count && used + len + WORDS_RIP_TO_CS > room)
                break;
            to[count] = (struct iovec){words + used, 8 * len};
            from[count] = (struct iovec){.iov_len = 8 * len};
            memcpy(&from[count].iov_base, &sp, sizeof sp);
            used += len;
            memset(words + used, 0, WORDS_RIP_TO_CS * sizeof *words);
            used += WORDS_RIP_TO_CS;
        }
        ssize_t got = scan ? process_vm_readv(target->pid, to, count, from, count, 0) : 0;
        for (size_t k = 0; k < count; k++) {
            const struct user_regs_struct *regs = &stopped->threads.data[i + k].regs;
            uint64_t *stack = to[k].iov_base;
            ssize_t bytes = (ssize_t)to[k].iov_len;
            if (got < bytes) { /* it ended before: what there is of this one */
                bytes = pread(target->mem, stack, to[k].iov_len, (off_t)(regs->rsp & ~7ULL));
                bytes = bytes > 0 ? bytes : 0;
                memset(stack + bytes / 8, 0, WORDS_RIP_TO_CS * sizeof *stack);
                got = 0;
            } else {
                got -= bytes;
            }
            search_one(&s, regs, stack, bytes / 8);
        }
    }
    return s.hits;
}

size_t tt_stacks_look(const struct tt_target *target, const struct tt_stopped *stopped,
                      const struct tt_window *windows, size_t n, unsigned where, bool *hit)
{
    return look(target, stopped, 0, stopped->threads.len, windows, n, where, hit);
}

bool tt_stacks_stands(const struct tt_target *target, const struct tt_stopped *stopped, size_t i,
                      const struct tt_window *window)
{
    bool hit;
    return look(target, stopped, i, i + 1, window, 1, TT_LOOK_RIP | TT_LOOK_FRAMES, &hit) != 0;
}

/* It has slept all the time in which its stack was read if it has not gone to sleep meanwhile and
 * sleeps in the end. */
static bool sleeps_clear(const struct tt_target *t, pid_t tid, const struct tt_window *window)
{
    uint64_t words[SCAN_STACK / 8], sp, pc;
    uint64_t switches = tt_target_switches(t->pid, tid);
    if (tt_target_syscall(t->pid, tid, &sp, &pc) < 0 ||
        pc - window->from < window->to - window->from)
        return false;
    sp &= ~7ULL;
    ssize_t got = pread(t->mem, words, stack_bytes(t, sp, 0), (off_t)sp);
    for (ssize_t w = 0; w < got / 8; w++)
        if (words[w] - window->from < window->to - window->from)
            return false;
    return got > 0 && tt_target_syscall(t->pid, tid, NULL, NULL) >= 0 &&
           tt_target_switches(t->pid, tid) == switches;
}

static bool ended(const struct tt_target *t, pid_t tid)
{
    return syscall(SYS_tgkill, t->pid, tid, 0) != 0 && errno == ESRCH;
}

/* Takes those out of `tids` that are seen clear within CLEAR_PASSES looks. Where most compute there
 * is no hope, and the looks would cost more than a stop. */
static void look_until_clear(const struct tt_target *t, const struct tt_window *window,
                             tt_proc_pid_vec *tids)
{
    const struct timespec pause = {0, CLEAR_PAUSE_NS};
    for (int pass = 0; tids->len && pass < CLEAR_PASSES; pass++) {
        const size_t before = tids->len;
        size_t left = 0;
        if (pass)
            nanosleep(&pause, NULL);
        for (size_t i = 0; i < tids->len; i++)
            if (!sleeps_clear(t, tids->data[i], window) && !ended(t, tids->data[i]))
                tids->data[left++] = tids->data[i];
        tids->len = left;
        if (left > before / 2)
            break;
    }
}

/* The second list has those that the first missed while others ended (proc_task_readdir counts). */
bool tt_stacks_clear(const struct tt_target *target, const struct tt_window *window)
{
    tt_proc_pid_vec tids = {0}, seen = {0};
    bool clear = false;
    if (tt_proc_list(target->pid, &seen) != 0 || tt_proc_list(target->pid, &tids) != 0)
        goto out;
    look_until_clear(target, window, &tids);
    if (tids.len || tt_proc_list(target->pid, &tids) != 0)
        goto out;
    size_t fresh = 0;
    for (size_t i = 0; i < tids.len; i++) {
        size_t k = 0;
        while (k < seen.len && seen.data[k] != tids.data[i])
            k++;
        if (k == seen.len)
            tids.data[fresh++] = tids.data[i];
    }
    tids.len = fresh;
    look_until_clear(target, window, &tids);
    clear = tids.len == 0;
out:
    tt_vec_free(&tids);
    tt_vec_free(&seen);
    return clear;
}
