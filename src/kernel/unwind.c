/* SPDX-License-Identifier: Apache-2.0 */
/* Stacks of a process from copies of its stack memory, by the rules of rules.c. Code without rules
 * is walked by its frame pointer, as long as that leads up the stack. What was read on the way is
 * noted: a stack whose words are the same again is the same stack (event.h, struct
 * tt_kernel_known). Start: tt_kernel_unwind. */
#include <string.h>

#include "kernel/rules.h"

#define OPS_MOST 32u
#define EVAL_DEEP 16u

struct walk {
    const struct tt_kernel_stopped *stopped;
    struct tt_kernel_words *words;
    uint64_t pc, sp, bp; /* of the frame; sp: its value there, which is the inner frame's CFA */
    uint64_t bp_from;    /* where bp was read, 0: the register as it was */
    bool out;            /* something lay outside of the copy */
};

/* A word that the walk depends on; relative: only its distance from the stack pointer matters. */
static void note(struct walk *w, uint64_t address, uint64_t value, bool relative)
{
    struct tt_kernel_words *words = w->words;
    uint64_t at = address - w->stopped->sp;
    uint16_t key = (uint16_t)(at | (relative ? 1 : 0));
    if ((at & 7) || at > TT_KERNEL_SPAN - 8) {
        words->whole = false;
        return;
    }
    for (uint32_t i = 0; i < words->n; i++)
        if (words->at[i] == key)
            return;
    if (words->n == TT_KERNEL_WORDS) {
        words->whole = false;
        return;
    }
    words->at[words->n] = key;
    words->word[words->n++] = relative ? value - w->stopped->sp : value;
}

static bool peek(struct walk *w, uint64_t address, uint64_t *value)
{
    const struct tt_kernel_stopped *s = w->stopped;
    if (address < s->base || s->bytes < 8 || address - s->base > s->bytes - 8) {
        w->out |= address >= s->base;
        return false;
    }
    memcpy(value, s->copy + (address - s->base), sizeof *value);
    for (uint32_t i = 0; s->returns && i < TT_KERNEL_RETURNS && s->returns[i].place; i++)
        if (s->returns[i].place == address)
            *value = s->returns[i].address;
    return true;
}

/* The frame pointer decides where something lies: it must be the same the next time. */
static void need_bp(struct walk *w)
{
    if (w->bp_from)
        note(w, w->bp_from, w->bp, true);
    else
        w->words->need_bp = true;
}

/* Runs operations (DWARF 5, 2.5) on a stack that begins with the CFA if there is one. */
static bool evaluate(struct walk *w, const Dwarf_Op *ops, size_t n, uint64_t cfa, uint64_t *out)
{
    uint64_t stack[EVAL_DEEP];
    size_t top = 0;
    if (n > OPS_MOST)
        return false;
    for (size_t i = 0; i < n; i++) {
        const Dwarf_Op *op = &ops[i];
        unsigned atom = op->atom;
        uint64_t reg = atom == DW_OP_bregx ? op->number : (uint64_t)atom - DW_OP_breg0;
        bool binary = atom == DW_OP_plus || atom == DW_OP_minus || atom == DW_OP_and ||
                      atom == DW_OP_shl || atom == DW_OP_ge;
        if (top + 1 >= EVAL_DEEP || (binary && top < 2) ||
            ((atom == DW_OP_deref || atom == DW_OP_plus_uconst) && top < 1))
            return false;
        if (atom == DW_OP_bregx || (atom >= DW_OP_breg0 && atom <= DW_OP_breg31)) {
            uint64_t off = atom == DW_OP_bregx ? op->number2 : op->number;
            if (reg != TT_KERNEL_REG_SP && reg != TT_KERNEL_REG_BP && reg != TT_KERNEL_REG_IP)
                return false;
            if (reg == TT_KERNEL_REG_BP)
                need_bp(w);
            stack[top++] = (reg == TT_KERNEL_REG_SP   ? w->sp
                            : reg == TT_KERNEL_REG_BP ? w->bp
                                                      : w->pc) +
                           off;
        } else if (atom == DW_OP_call_frame_cfa) {
            stack[top++] = cfa;
        } else if (atom >= DW_OP_lit0 && atom <= DW_OP_lit31) {
            stack[top++] = (uint64_t)atom - DW_OP_lit0;
        } else if (atom == DW_OP_const1u || atom == DW_OP_const1s || atom == DW_OP_const2u ||
                   atom == DW_OP_const2s || atom == DW_OP_const4s || atom == DW_OP_constu ||
                   atom == DW_OP_consts) {
            stack[top++] = op->number;
        } else if (atom == DW_OP_plus_uconst) {
            stack[top - 1] += op->number;
        } else if (atom == DW_OP_deref) {
            uint64_t address = stack[top - 1];
            if (!peek(w, address, &stack[top - 1]))
                return false;
            note(w, address, stack[top - 1], true);
        } else if (binary) {
            uint64_t b = stack[--top], *a = &stack[top - 1];
            *a = atom == DW_OP_plus    ? *a + b
                 : atom == DW_OP_minus ? *a - b
                 : atom == DW_OP_and   ? (*a & b)
                 : atom == DW_OP_shl   ? *a << (b & 63)
                                       : (int64_t)*a >= (int64_t)b;
        } else if (atom != DW_OP_nop) {
            return false;
        }
    }
    *out = top ? stack[top - 1] : 0;
    return top > 0;
}

/* Without rules: the frame pointer, if it can be one. */
static int step_by_pointer(struct walk *w)
{
    uint64_t bp, ip;
    if (w->bp < w->sp || (w->bp & 7) || !peek(w, w->bp, &bp) || !peek(w, w->bp + 8, &ip) || !ip)
        return -1;
    need_bp(w);
    note(w, w->bp + 8, ip, false);
    w->sp = w->bp + 16;
    w->bp_from = w->bp;
    w->bp = bp;
    w->pc = ip;
    return 1;
}

/* A stub around a system call may have neither rules nor a frame: glibc's clone3 ends its rules
 * before the call, since they would be wrong in the child; Go's Syscall6 is assembly. */
static bool step_out_of_stub(struct tt_kernel_unwind *u, struct walk *w)
{
    uint64_t ip;
    if (!peek(w, w->sp, &ip) || !tt_kernel_is_code(u, ip))
        return false;
    note(w, w->sp, ip, false);
    w->sp += 8;
    w->pc = ip;
    return true;
}

/* To the caller's frame. 1: done; 0: this was the outermost; -1: lost. */
static int step(struct walk *w, const struct tt_kernel_row *row)
{
    uint64_t cfa, at, bp = w->bp, bp_from = w->bp_from;
    if (!row || row->kind == ROW_NONE)
        return step_by_pointer(w);
    if (row->kind == ROW_END)
        return 0;
    if (row->kind == ROW_PLAIN) {
        if (row->cfa_reg == TT_KERNEL_REG_BP)
            need_bp(w);
        cfa = (row->cfa_reg == TT_KERNEL_REG_BP ? w->bp : w->sp) + (uint64_t)row->cfa_off;
    } else if (!evaluate(w, row->cfa, row->n_cfa, 0, &cfa)) {
        return -1;
    }
    if ((row->ip_di ? cfa < w->sp : cfa <= w->sp) && !row->signal)
        return -1;
    if (row->signal)
        w->words->whole = false;
    if (row->bp == BP_SAVED || row->bp == BP_OPS) {
        bp_from = cfa + (uint64_t)row->bp_off;
        if (row->bp == BP_OPS && !evaluate(w, row->bp_at, row->n_bp, cfa, &bp_from))
            return -1;
        if (!peek(w, bp_from, &bp))
            return -1;
    } else if (row->bp == BP_LOST) {
        bp = 0; /* a step that needs it leaves the stack, and ends the walk */
    }
    if (row->ip_di && w->pc == w->stopped->ip) {
        w->words->whole = false; /* not a word of the stack */
        w->sp = cfa;
        w->pc = w->stopped->di;
        return 1;
    }
    at = cfa - 8;
    if (row->ip_ops && !evaluate(w, row->ip_at, row->n_ip, cfa, &at))
        return -1;
    uint64_t ip;
    if (!peek(w, at, &ip))
        return -1;
    note(w, at, ip, false);
    w->sp = cfa;
    w->bp = bp;
    w->bp_from = bp_from;
    w->pc = ip;
    return ip ? 1 : 0;
}

void tt_kernel_unwind(struct tt_kernel_unwind *u, const struct tt_kernel_stopped *stopped,
                      struct tt_kernel_frames *frames, struct tt_kernel_words *words)
{
    struct walk w = {.stopped = stopped,
                     .words = words,
                     .pc = stopped->ip,
                     .sp = stopped->sp,
                     .bp = stopped->bp};
    bool exact = true; /* pc is the next instruction, not one behind a call */
    *words = (struct tt_kernel_words){.whole = true};
    *frames = (struct tt_kernel_frames){0};
    tt_kernel_becomes_code(u, w.pc);
    frames->wrapper = tt_kernel_in_libc(u, w.pc);
    for (;;) {
        if (frames->n == TT_TAPE_DEPTH) {
            frames->cut = true;
            break;
        }
        frames->pc[frames->n++] = w.pc;
        const struct tt_kernel_row *row = tt_kernel_row(u, exact ? w.pc : w.pc - 1);
        exact = row && row->signal;
        bool stub = frames->n == 1 && (!row || row->kind == ROW_NONE);
        int went = stub && step_out_of_stub(u, &w) ? 1 : step(&w, row);
        if (went == 0)
            break;
        if (went < 0 || !tt_kernel_is_code(u, w.pc)) {
            /* the loader's first code has no rules that say so */
            frames->cut = !tt_kernel_in_loader(u, frames->pc[frames->n - 1]);
            frames->short_copy = w.out;
            break;
        }
    }
    frames->loader = tt_kernel_in_loader(u, frames->pc[frames->n - 1]);
    frames->loads = tt_kernel_in_loader(u, frames->pc[0]);
}
