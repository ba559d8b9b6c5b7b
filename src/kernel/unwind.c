/* SPDX-License-Identifier: Apache-2.0 */
/* Stacks of a process from copies of its stack memory. The rules are elfutils': .eh_frame, and
 * .debug_frame where there is no other (Go), looked up once per program counter and kept as the few
 * operations that they are. Code without rules is walked by its frame pointer, as long as that
 * leads up the stack. What was read on the way is noted: a stack whose words are the same again is
 * the same stack (event.h, struct tt_kernel_known). Start: tt_kernel_unwind. */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/files.h"

#define REG_DI 5u
#define REG_BP 6u /* DWARF numbers, System V ABI x86-64, figure 3.36 */
#define REG_SP 7u
#define REG_IP 16u
#define OPS_MOST 32u
#define EVAL_DEEP 16u

/* ---- rows ---- */

/* The usual rules need no operations: CFA is a register plus an offset, the return address lies
 * right below it, and rbp is the same or saved at an offset from it. */
enum { ROW_NONE, ROW_PLAIN, ROW_OPS, ROW_END };
enum { BP_SAME, BP_SAVED, BP_OPS, BP_LOST };
struct row {
    uint8_t kind, bp, cfa_reg, signal;
    bool ip_di;  /* the return address is in rdi: vfork, whose stack the child uses too */
    bool ip_ops; /* the return address by operations, of memory */
    int64_t cfa_off, bp_off;
    Dwarf_Frame *frame; /* owns the operations; NULL for plain rows */
    Dwarf_Op *cfa, *bp_at, *ip_at;
    Dwarf_Op cfa_room[3], bp_room[3], ip_room[3];
    size_t n_cfa, n_bp, n_ip;
};

struct tt_kernel_unwind {
    struct tt_kernel_files *files;
    pid_t pid;
    struct tt_proc_maps maps;
    TT_VEC(struct row *) rows;
    struct tt_map row_at;     /* program counter to index */
    struct tt_map wrapper_at; /* program counter to whether it is in a wrapper */
};

static void drop_rows(struct tt_kernel_unwind *u)
{
    for (size_t i = 0; i < u->rows.len; i++) {
        free(u->rows.data[i]->frame);
        free(u->rows.data[i]);
    }
    tt_vec_free(&u->rows);
    tt_map_free(&u->row_at);
    tt_map_free(&u->wrapper_at);
}

struct tt_kernel_unwind *tt_kernel_unwind_new(struct tt_kernel_files *files, pid_t pid)
{
    struct tt_kernel_unwind *u = calloc(1, sizeof *u);
    if (!u)
        return NULL;
    u->files = files;
    u->pid = pid;
    tt_kernel_unwind_again(u);
    return u;
}

void tt_kernel_unwind_free(struct tt_kernel_unwind *u)
{
    if (!u)
        return;
    drop_rows(u);
    tt_proc_maps_free(&u->maps);
    free(u);
}

bool tt_kernel_unwind_again(struct tt_kernel_unwind *u)
{
    struct tt_proc_maps now = {0};
    if (tt_proc_maps_read(u->pid, &now) || !now.maps.len) {
        tt_proc_maps_free(&now); /* it has ended: what is known stays */
        return false;
    }
    tt_proc_maps_free(&u->maps);
    u->maps = now;
    return true;
}

static const struct tt_proc_map *code_at(const struct tt_kernel_unwind *u, uint64_t pc)
{
    const struct tt_proc_map *map = tt_proc_map_at(&u->maps, pc);
    return map && map->exec ? map : NULL;
}

uint64_t tt_kernel_unwind_end(struct tt_kernel_unwind *u, uint64_t start)
{
    const struct tt_proc_map *map =
        tt_kernel_unwind_again(u) ? tt_proc_map_at(&u->maps, start) : NULL;
    return map && map->start == start ? map->end : start;
}

bool tt_kernel_unwind_holds(const struct tt_kernel_unwind *u, uint64_t start, uint64_t end)
{
    for (size_t i = 0; i < u->maps.maps.len; i++) {
        const struct tt_proc_map *map = &u->maps.maps.data[i];
        if (map->exec && map->start < end && start < map->end)
            return true;
    }
    return false;
}

/* Takes the rule of one register, if it is a plain one: 1 saved at *off from the CFA, 0 same,
 * 2 undefined, -1 other. */
static int plain_rule(const Dwarf_Op *ops, size_t n, const Dwarf_Op *room, int64_t *off)
{
    if (n == 0)
        return ops == room ? 2 : 0;
    if (ops[0].atom != DW_OP_call_frame_cfa || n > 2 ||
        (n == 2 && ops[1].atom != DW_OP_plus_uconst))
        return -1;
    *off = n == 2 ? (int64_t)ops[1].number : 0;
    return 1;
}

static void describe(struct row *row, Dwarf_Frame *frame)
{
    bool signal = false;
    int64_t off;
    dwarf_frame_info(frame, NULL, NULL, &signal);
    row->signal = signal;
    if (dwarf_frame_cfa(frame, &row->cfa, &row->n_cfa) || !row->n_cfa ||
        dwarf_frame_register(frame, REG_IP, row->ip_room, &row->ip_at, &row->n_ip) ||
        dwarf_frame_register(frame, REG_BP, row->bp_room, &row->bp_at, &row->n_bp))
        return;
    int rule = plain_rule(row->ip_at, row->n_ip, row->ip_room, &off);
    if (rule == 2 || rule == 0) {
        row->kind = rule == 2 ? ROW_END : ROW_NONE;
        return;
    }
    row->ip_di =
        row->n_ip == 1 && row->ip_at[0].atom == DW_OP_regx && row->ip_at[0].number == REG_DI;
    row->ip_ops = rule < 0 || off != -8;
    rule = plain_rule(row->bp_at, row->n_bp, row->bp_room, &row->bp_off);
    row->bp = rule == 0 ? BP_SAME : rule == 1 ? BP_SAVED : rule == 2 ? BP_LOST : BP_OPS;
    row->kind = ROW_OPS;
    if (row->n_cfa == 1 && row->cfa[0].atom == DW_OP_bregx &&
        (row->cfa[0].number == REG_SP || row->cfa[0].number == REG_BP)) {
        row->kind = ROW_PLAIN;
        row->cfa_reg = (uint8_t)row->cfa[0].number;
        row->cfa_off = (int64_t)row->cfa[0].number2;
    }
}

static struct tt_kernel_file *file_at(const struct tt_kernel_unwind *u,
                                      const struct tt_proc_map *map)
{
    return map && map->inode
               ? tt_kernel_files_get(u->files, u->pid, map, tt_proc_map_path(&u->maps, map))
               : NULL;
}

static struct row *compute(struct tt_kernel_unwind *u, uint64_t pc)
{
    const struct tt_proc_map *map = code_at(u, pc);
    struct row *row = calloc(1, sizeof *row);
    if (!row)
        return NULL;
    struct tt_kernel_file *file = file_at(u, map);
    uint64_t address;
    if (file && tt_kernel_file_address(file, map, pc, &address) &&
        (row->frame = tt_kernel_file_frame(file, address)) != NULL)
        describe(row, row->frame);
    return row;
}

static struct row *row_of(struct tt_kernel_unwind *u, uint64_t pc)
{
    uint64_t *at = tt_map_get(&u->row_at, pc);
    if (at)
        return u->rows.data[*at];
    struct row *row = compute(u, pc);
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): a list of pointers */
    if (!row || tt_vec_push(&u->rows, row)) {
        free(row);
        return NULL;
    }
    tt_map_put(&u->row_at, pc, u->rows.len - 1);
    return row;
}

/* ---- the walk ---- */

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
            if (reg != REG_SP && reg != REG_BP && reg != REG_IP)
                return false;
            if (reg == REG_BP)
                need_bp(w);
            stack[top++] = (reg == REG_SP ? w->sp : reg == REG_BP ? w->bp : w->pc) + off;
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
static bool step_out_of_stub(const struct tt_kernel_unwind *u, struct walk *w)
{
    uint64_t ip;
    if (!peek(w, w->sp, &ip) || !code_at(u, ip))
        return false;
    note(w, w->sp, ip, false);
    w->sp += 8;
    w->pc = ip;
    return true;
}

/* To the caller's frame. 1: done; 0: this was the outermost; -1: lost. */
static int step(struct walk *w, const struct row *row)
{
    uint64_t cfa, at, bp = w->bp, bp_from = w->bp_from;
    if (!row || row->kind == ROW_NONE)
        return step_by_pointer(w);
    if (row->kind == ROW_END)
        return 0;
    if (row->kind == ROW_PLAIN) {
        if (row->cfa_reg == REG_BP)
            need_bp(w);
        cfa = (row->cfa_reg == REG_BP ? w->bp : w->sp) + (uint64_t)row->cfa_off;
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

static bool begins(const char *name, const char *const *with)
{
    for (; *with; with++)
        if (strncmp(name, *with, strlen(*with)) == 0)
            return true;
    return false;
}

static const char *name_at(const struct tt_kernel_unwind *u, uint64_t pc)
{
    const struct tt_proc_map *map = code_at(u, pc);
    const char *path = map ? tt_proc_map_path(&u->maps, map) : "", *name = strrchr(path, '/');
    return name ? name + 1 : path;
}

static bool in_loader(const struct tt_kernel_unwind *u, uint64_t pc)
{
    static const char *const loader[] = {"ld-linux", "ld-2.", NULL};
    return begins(name_at(u, pc), loader);
}

static void name_place(struct tt_kernel_unwind *u, uint64_t pc, struct tt_kernel_frames *frames)
{
    static const char *const libc[] = {"libc.so", "libc-2.", "libpthread",
                                       "ld-musl", "librt",   NULL};
    const struct tt_proc_map *map = code_at(u, pc);
    frames->wrapper = begins(name_at(u, pc), libc);
    if (frames->wrapper || in_loader(u, pc) || !map || !map->inode)
        return;
    const uint64_t *known = tt_map_get(&u->wrapper_at, pc);
    if (known) {
        frames->wrapper = *known;
        return;
    }
    const struct tt_kernel_file *f = file_at(u, map);
    uint64_t address;
    frames->wrapper =
        f && tt_kernel_file_address(f, map, pc, &address) && tt_kernel_file_reserved(f, address);
    tt_map_put(&u->wrapper_at, pc, frames->wrapper);
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
    if (!code_at(u, w.pc) && tt_kernel_unwind_again(u))
        drop_rows(u);
    name_place(u, w.pc, frames);
    for (;;) {
        if (frames->n == TT_TAPE_DEPTH) {
            frames->cut = true;
            break;
        }
        frames->pc[frames->n++] = w.pc;
        const struct row *row = row_of(u, exact ? w.pc : w.pc - 1);
        exact = row && row->signal;
        bool stub = frames->n == 1 && (!row || row->kind == ROW_NONE);
        int went = stub && step_out_of_stub(u, &w) ? 1 : step(&w, row);
        if (went == 0)
            break;
        if (went < 0 || !code_at(u, w.pc)) {
            /* the loader's first code has no rules that say so */
            frames->cut = !in_loader(u, frames->pc[frames->n - 1]);
            frames->short_copy = w.out;
            break;
        }
    }
    frames->loader = in_loader(u, frames->pc[frames->n - 1]);
    frames->loads = in_loader(u, frames->pc[0]);
}
