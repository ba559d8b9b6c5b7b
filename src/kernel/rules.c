/* SPDX-License-Identifier: Apache-2.0 */
/* The code of a process and its rules for unwinding. The rules are elfutils': .eh_frame, and
 * .debug_frame where there is no other (Go), looked up once per program counter and kept as the few
 * operations that they are. Code comes and goes while the process runs: an interval that was told
 * of is in doubt, and the mappings are read again when somebody asks for a place in it, not before;
 * a program that loads a library for each request is not read for each. Start: tt_kernel_row,
 * tt_kernel_unwind_code. */
#include "kernel/rules.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/files.h"

#define DOUBTS_MOST 64u

/* ---- mappings ---- */

struct interval {
    uint64_t start, end;
};
struct tt_kernel_unwind {
    struct tt_kernel_files *files;
    pid_t pid;
    struct tt_proc_maps maps;
    TT_VEC(struct interval) doubts; /* code came or went there since the maps were read */
    bool ended;                     /* they cannot be read any more */
    TT_VEC(struct tt_kernel_row *) rows;
    struct tt_map row_at; /* program counter to index */
};

struct tt_kernel_unwind *tt_kernel_unwind_new(struct tt_kernel_files *files, pid_t pid)
{
    struct tt_kernel_unwind *u = calloc(1, sizeof *u);
    if (!u)
        return NULL;
    u->files = files;
    u->pid = pid;
    if (tt_proc_maps_read(pid, &u->maps))
        u->maps.maps.len = 0;
    return u;
}

void tt_kernel_unwind_free(struct tt_kernel_unwind *u)
{
    if (!u)
        return;
    for (size_t i = 0; i < u->rows.len; i++) {
        free(u->rows.data[i]->frame);
        free(u->rows.data[i]);
    }
    tt_vec_free(&u->rows);
    tt_map_free(&u->row_at);
    tt_vec_free(&u->doubts);
    tt_proc_maps_free(&u->maps);
    free(u);
}

/* False: it has ended, and what is known stays. */
static bool read_again(struct tt_kernel_unwind *u)
{
    struct tt_proc_maps now = {0};
    if (u->ended)
        return false;
    u->doubts.len = 0;
    if (tt_proc_maps_read(u->pid, &now) || !now.maps.len) {
        tt_proc_maps_free(&now);
        u->ended = true;
        return false;
    }
    tt_proc_maps_free(&u->maps);
    u->maps = now;
    return true;
}

static bool overlaps(const struct interval *i, uint64_t start, uint64_t end)
{
    return i->start < end && start < i->end;
}

static bool in_doubt(const struct tt_kernel_unwind *u, uint64_t start, uint64_t end)
{
    for (size_t i = 0; i < u->doubts.len; i++)
        if (overlaps(&u->doubts.data[i], start, end))
            return true;
    return false;
}

static const struct tt_proc_map *code_at(struct tt_kernel_unwind *u, uint64_t pc)
{
    if (in_doubt(u, pc, pc + 1))
        read_again(u);
    const struct tt_proc_map *map = tt_proc_map_at(&u->maps, pc);
    return map && map->exec ? map : NULL;
}

bool tt_kernel_is_code(struct tt_kernel_unwind *u, uint64_t pc)
{
    return code_at(u, pc) != NULL;
}

bool tt_kernel_becomes_code(struct tt_kernel_unwind *u, uint64_t pc)
{
    if (code_at(u, pc))
        return true;
    if (!read_again(u))
        return false;
    for (size_t i = 0; i < u->rows.len; i++) /* where there was none, there may be now */
        u->rows.data[i]->stale |= !u->rows.data[i]->frame;
    return code_at(u, pc) != NULL;
}

uint64_t tt_kernel_unwind_end(struct tt_kernel_unwind *u, uint64_t start)
{
    const struct tt_proc_map *map = read_again(u) ? tt_proc_map_at(&u->maps, start) : NULL;
    return map && map->start == start ? map->end : start;
}

void tt_kernel_unwind_code(struct tt_kernel_unwind *u, uint64_t start, uint64_t end)
{
    struct interval doubt = {start, end};
    for (size_t i = 0; i < u->rows.len; i++)
        u->rows.data[i]->stale |= u->rows.data[i]->pc >= start && u->rows.data[i]->pc < end;
    if (u->doubts.len >= DOUBTS_MOST || tt_vec_push(&u->doubts, doubt)) {
        for (size_t i = 0; i < u->doubts.len; i++) { /* all of them become one */
            const struct interval *d = &u->doubts.data[i];
            doubt.start = d->start < doubt.start ? d->start : doubt.start;
            doubt.end = d->end > doubt.end ? d->end : doubt.end;
        }
        u->doubts.len = u->doubts.len > 0;
        if (u->doubts.len)
            u->doubts.data[0] = doubt;
    }
}

bool tt_kernel_unwind_gone(struct tt_kernel_unwind *u, uint64_t start, uint64_t end)
{
    bool held = in_doubt(u, start, end);
    for (size_t i = 0; !held && i < u->maps.maps.len; i++) {
        const struct tt_proc_map *map = &u->maps.maps.data[i];
        held = map->exec && map->start < end && start < map->end;
    }
    if (held)
        tt_kernel_unwind_code(u, start, end);
    return held;
}

/* ---- rows ---- */

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

static void describe(struct tt_kernel_row *row, Dwarf_Frame *frame)
{
    bool signal = false;
    int64_t off = 0;
    dwarf_frame_info(frame, NULL, NULL, &signal);
    row->signal = signal;
    if (dwarf_frame_cfa(frame, &row->cfa, &row->n_cfa) || !row->n_cfa ||
        dwarf_frame_register(frame, TT_KERNEL_REG_IP, row->ip_room, &row->ip_at, &row->n_ip) ||
        dwarf_frame_register(frame, TT_KERNEL_REG_BP, row->bp_room, &row->bp_at, &row->n_bp))
        return;
    int rule = plain_rule(row->ip_at, row->n_ip, row->ip_room, &off);
    if (rule == 2 || rule == 0) {
        row->kind = rule == 2 ? ROW_END : ROW_NONE;
        return;
    }
    row->ip_di = row->n_ip == 1 && row->ip_at[0].atom == DW_OP_regx &&
                 row->ip_at[0].number == TT_KERNEL_REG_DI;
    row->ip_ops = rule < 0 || off != -8;
    rule = plain_rule(row->bp_at, row->n_bp, row->bp_room, &row->bp_off);
    row->bp = rule == 0 ? BP_SAME : rule == 1 ? BP_SAVED : rule == 2 ? BP_LOST : BP_OPS;
    row->kind = ROW_OPS;
    if (row->n_cfa == 1 && row->cfa[0].atom == DW_OP_bregx &&
        (row->cfa[0].number == TT_KERNEL_REG_SP || row->cfa[0].number == TT_KERNEL_REG_BP)) {
        row->kind = ROW_PLAIN;
        row->cfa_reg = (uint8_t)row->cfa[0].number;
        row->cfa_off = (int64_t)row->cfa[0].number2;
    }
}

static void compute(struct tt_kernel_unwind *u, struct tt_kernel_row *row)
{
    const struct tt_proc_map *map = code_at(u, row->pc);
    struct tt_kernel_file *file = NULL;
    if (map && map->inode)
        file = tt_kernel_files_get(u->files, u->pid, map, tt_proc_map_path(&u->maps, map));
    uint64_t address;
    if (file && tt_kernel_file_address(file, map, row->pc, &address) &&
        (row->frame = tt_kernel_file_frame(file, address)) != NULL)
        describe(row, row->frame);
}

static struct tt_kernel_row *row_of(struct tt_kernel_unwind *u, uint64_t pc)
{
    uint64_t *at = tt_map_get(&u->row_at, pc);
    struct tt_kernel_row *row = at ? u->rows.data[*at] : calloc(1, sizeof *row);
    if (at && !row->stale)
        return row;
    if (at)
        free(row->frame);
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): a list of pointers */
    if (!row || (!at && tt_vec_push(&u->rows, row))) {
        free(row);
        return NULL;
    }
    *row = (struct tt_kernel_row){.pc = pc, .wrapper = -1};
    if (!at)
        tt_map_put(&u->row_at, pc, u->rows.len - 1);
    compute(u, row);
    return row;
}

const struct tt_kernel_row *tt_kernel_row(struct tt_kernel_unwind *u, uint64_t pc)
{
    return row_of(u, pc);
}

/* ---- names of places ---- */

static bool begins(const char *name, const char *const *with)
{
    for (; *with; with++)
        if (strncmp(name, *with, strlen(*with)) == 0)
            return true;
    return false;
}

static const char *name_at(struct tt_kernel_unwind *u, uint64_t pc)
{
    const struct tt_proc_map *map = code_at(u, pc);
    const char *path = map ? tt_proc_map_path(&u->maps, map) : "", *name = strrchr(path, '/');
    return name ? name + 1 : path;
}

bool tt_kernel_in_loader(struct tt_kernel_unwind *u, uint64_t pc)
{
    static const char *const loader[] = {"ld-linux", "ld-2.", NULL};
    return begins(name_at(u, pc), loader);
}

bool tt_kernel_in_libc(struct tt_kernel_unwind *u, uint64_t pc)
{
    static const char *const libc[] = {"libc.so", "libc-2.", "libpthread",
                                       "ld-musl", "librt",   NULL};
    const struct tt_proc_map *map = code_at(u, pc);
    if (begins(name_at(u, pc), libc))
        return true;
    if (tt_kernel_in_loader(u, pc) || !map || !map->inode)
        return false;
    struct tt_kernel_row *row = row_of(u, pc);
    if (row && row->wrapper < 0) {
        const struct tt_kernel_file *f =
            tt_kernel_files_get(u->files, u->pid, map, tt_proc_map_path(&u->maps, map));
        uint64_t address;
        row->wrapper = f && tt_kernel_file_address(f, map, pc, &address) &&
                       tt_kernel_file_reserved(f, address);
    }
    return row && row->wrapper;
}
