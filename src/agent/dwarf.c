/* SPDX-License-Identifier: Apache-2.0 */
/* One unwind row from .eh_frame: how to get from a program counter to its caller. The module's ELF
 * header (found through the map list) leads to PT_GNU_EH_FRAME, its sorted table to the FDE, whose
 * program is run up to the pc (DWARF 5, 6.4; LSB Core 4.1, 10.6). Every byte is read through
 * a cursor confined to a readable mapping, since a module may lie or be cut short. Done once per
 * pc; the result is kept by row.c. Start: tt_dwarf_row. */
#include "agent/agent.h"

struct cursor {
    const uint8_t *at, *end;
    int bad;
};

static uint64_t take(struct cursor *c, unsigned bytes)
{
    uint64_t v = 0;
    if ((uint64_t)(c->end - c->at) < bytes) {
        c->bad = 1;
        c->at = c->end;
        return 0;
    }
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)c->at[i] << (8 * i);
    c->at += bytes;
    return v;
}

static uint64_t take_uleb(struct cursor *c)
{
    uint64_t v = 0;
    for (unsigned shift = 0; !c->bad; shift += 7) {
        uint64_t b = take(c, 1);
        if (shift < 64)
            v |= (b & 0x7f) << shift;
        if (!(b & 0x80))
            break;
    }
    return v;
}

static int64_t take_sleb(struct cursor *c)
{
    uint64_t v = 0;
    unsigned shift = 0;
    while (!c->bad) {
        uint64_t b = take(c, 1);
        if (shift < 64)
            v |= (b & 0x7f) << shift;
        shift += 7;
        if (!(b & 0x80)) {
            if ((b & 0x40) && shift < 64)
                v |= ~0ULL << shift;
            break;
        }
    }
    return (int64_t)v;
}

static void skip(struct cursor *c, uint64_t bytes)
{
    if ((uint64_t)(c->end - c->at) < bytes) {
        c->bad = 1;
        c->at = c->end;
    } else {
        c->at += bytes;
    }
}

/* A pointer in one of the encodings of LSB Core 10.5. Indirect ones are only ever personality
 * routines, which nobody here follows. */
static uint64_t take_pointer(struct cursor *c, uint8_t encoding)
{
    uint64_t here = (uint64_t)c->at, v;
    switch (encoding & 0x0f) {
    case 0x00:
    case 0x04:
    case 0x0c:
        v = take(c, 8);
        break;
    case 0x01:
        v = take_uleb(c);
        break;
    case 0x02:
        v = take(c, 2);
        break;
    case 0x03:
        v = take(c, 4);
        break;
    case 0x09:
        v = (uint64_t)take_sleb(c);
        break;
    case 0x0a:
        v = (uint64_t)(int64_t)(int16_t)take(c, 2);
        break;
    case 0x0b:
        v = (uint64_t)(int64_t)(int32_t)take(c, 4);
        break;
    default:
        c->bad = 1;
        return 0;
    }
    if ((encoding & 0x70) == 0x10)
        v += here;
    else if ((encoding & 0x70) != 0)
        c->bad = 1;
    return v;
}

/* A cursor from `address` to the end of the readable mapping that holds it. */
static struct cursor at(uint64_t address)
{
    struct tt_map m;
    struct cursor c = {(const uint8_t *)address, (const uint8_t *)address, 1};
    if (tt_maps_find(address, &m, NULL) && m.is & TT_IS_READ) {
        c.end = (const uint8_t *)m.hi;
        c.bad = 0;
    }
    return c;
}

/* Finds .eh_frame_hdr (address) of the module with the header at `header`. */
static uint64_t find_eh_frame_hdr(uint64_t header)
{
    struct cursor c = at(header);
    if (take(&c, 4) != 0x464c457f || take(&c, 1) != 2)
        return 0;
    skip(&c, 27);
    uint64_t phoff = take(&c, 8);
    skip(&c, 14);
    uint64_t phentsize = take(&c, 2), phnum = take(&c, 2);
    if (c.bad || phentsize != 56 || phnum > 64)
        return 0;
    uint64_t first = ~0ULL, hdr = 0;
    c = at(header);
    skip(&c, phoff);
    for (uint64_t i = 0; i < phnum && !c.bad; i++) {
        uint64_t type = take(&c, 4);
        skip(&c, 4);
        uint64_t offset = take(&c, 8), vaddr = take(&c, 8);
        skip(&c, 32);
        if (type == 1 && first == ~0ULL)
            first = vaddr - offset;
        if (type == 0x6474e550)
            hdr = vaddr;
    }
    return c.bad || first == ~0ULL || !hdr ? 0 : header + (hdr - first);
}

/* Finds the FDE that may cover `pc` by the sorted table (binary search, LSB Core 10.6.2). */
static uint64_t find_fde(uint64_t hdr, uint64_t pc)
{
    struct cursor c = at(hdr);
    uint64_t version = take(&c, 1), frame_enc = take(&c, 1), count_enc = take(&c, 1),
             table_enc = take(&c, 1);
    if (c.bad || version != 1 || table_enc != 0x3b)
        return 0;
    take_pointer(&c, (uint8_t)frame_enc);
    uint64_t count = take_pointer(&c, (uint8_t)count_enc);
    if (c.bad || count == 0 || count > (uint64_t)(c.end - c.at) / 8)
        return 0;
    const uint8_t *table = c.at;
    int64_t wanted = (int64_t)(pc - hdr);
    uint64_t lo = 0, hi = count;
    while (hi - lo > 1) {
        uint64_t mid = (lo + hi) / 2;
        int32_t start;
        __builtin_memcpy(&start, table + mid * 8, 4);
        if (start <= wanted)
            lo = mid;
        else
            hi = mid;
    }
    int32_t fde;
    __builtin_memcpy(&fde, table + lo * 8 + 4, 4);
    return hdr + (uint64_t)(int64_t)fde;
}

/* The part of the register state that matters here. */
enum cfa_kind { CFA_NONE, CFA_REG, CFA_EXPR };
enum rule { RULE_SAME, RULE_OFFSET, RULE_EXPR, RULE_UNDEFINED, RULE_OTHER };
struct expr {
    const uint8_t *at;
    uint64_t bytes;
};
struct state {
    uint8_t cfa_kind, rbp, ra;
    uint64_t cfa_reg;
    int64_t cfa_off, rbp_off;
    struct expr cfa_expr, rbp_expr;
};

struct cie {
    uint64_t code_align;
    int64_t data_align;
    uint8_t pointer_enc, signal, has_data;
    struct cursor program;
};

static int read_cie(uint64_t address, struct cie *cie)
{
    struct cursor c = at(address);
    uint64_t length = take(&c, 4);
    if (c.bad || length == 0 || length >= 0xfffffff0 || length > (uint64_t)(c.end - c.at))
        return -1;
    c.end = c.at + length;
    if (take(&c, 4) != 0)
        return -1;
    uint64_t version = take(&c, 1);
    const uint8_t *aug = c.at;
    while (take(&c, 1) != 0)
        ;
    if (version != 1 && version != 3)
        return -1;
    cie->code_align = take_uleb(&c);
    cie->data_align = take_sleb(&c);
    uint64_t ra = version == 1 ? take(&c, 1) : take_uleb(&c);
    if (c.bad || ra != TT_ARCH_DW_RA)
        return -1;
    cie->pointer_enc = 0;
    cie->signal = cie->has_data = 0;
    if (*aug == 'z') {
        cie->has_data = 1;
        uint64_t bytes = take_uleb(&c);
        struct cursor data = c;
        skip(&c, bytes);
        for (aug++; *aug && !data.bad; aug++) {
            if (*aug == 'R')
                cie->pointer_enc = (uint8_t)take(&data, 1);
            else if (*aug == 'P')
                take_pointer(&data, (uint8_t)(take(&data, 1) & 0x7f));
            else if (*aug == 'L')
                take(&data, 1);
            else if (*aug == 'S')
                cie->signal = 1;
            else
                break;
        }
    } else if (*aug != 0) {
        return -1;
    }
    cie->program = c;
    return c.bad ? -1 : 0;
}

static void set_rule(struct state *s, uint64_t reg, uint8_t rule, int64_t off)
{
    if (reg == TT_ARCH_DW_RBP) {
        s->rbp = rule;
        s->rbp_off = off;
    } else if (reg == TT_ARCH_DW_RA) {
        s->ra = rule;
    }
}

static struct expr take_block(struct cursor *c)
{
    uint64_t bytes = take_uleb(c);
    struct expr e = {c->at, bytes};
    skip(c, bytes);
    return e;
}

/* Runs a call frame program until its location passes `stop` bytes after the FDE's start. */
static int run(struct cursor c, const struct cie *cie, uint64_t stop, const struct state *initial,
               struct state *s)
{
    struct state kept[4];
    unsigned kept_count = 0;
    uint64_t loc = 0, reg;
    while (c.at < c.end && !c.bad) {
        uint64_t op = take(&c, 1), low = op & 0x3f;
        uint64_t advance = 0;
        switch (op >> 6) {
        case 1:
            advance = low * cie->code_align;
            break;
        case 2:
            set_rule(s, low, RULE_OFFSET, (int64_t)take_uleb(&c) * cie->data_align);
            break;
        case 3:
            set_rule(s, low, low == TT_ARCH_DW_RBP ? initial->rbp : initial->ra, initial->rbp_off);
            break;
        default:
            switch (low) {
            case 0x00: /* nop */
                break;
            case 0x01: /* set_loc: not produced for x86-64 */
                return -1;
            case 0x02:
                advance = take(&c, 1) * cie->code_align;
                break;
            case 0x03:
                advance = take(&c, 2) * cie->code_align;
                break;
            case 0x04:
                advance = take(&c, 4) * cie->code_align;
                break;
            case 0x05: /* offset_extended */
                reg = take_uleb(&c);
                set_rule(s, reg, RULE_OFFSET, (int64_t)take_uleb(&c) * cie->data_align);
                break;
            case 0x06: /* restore_extended */
                reg = take_uleb(&c);
                set_rule(s, reg, reg == TT_ARCH_DW_RBP ? initial->rbp : initial->ra,
                         initial->rbp_off);
                break;
            case 0x07: /* undefined */
                set_rule(s, take_uleb(&c), RULE_UNDEFINED, 0);
                break;
            case 0x08: /* same_value */
                set_rule(s, take_uleb(&c), RULE_SAME, 0);
                break;
            case 0x09: /* register */
                reg = take_uleb(&c);
                take_uleb(&c);
                set_rule(s, reg, RULE_OTHER, 0);
                break;
            case 0x0a: /* remember_state */
                if (kept_count == 4)
                    return -1;
                kept[kept_count++] = *s;
                break;
            case 0x0b: /* restore_state */
                if (kept_count == 0)
                    return -1;
                *s = kept[--kept_count];
                break;
            case 0x0c: /* def_cfa */
                s->cfa_kind = CFA_REG;
                s->cfa_reg = take_uleb(&c);
                s->cfa_off = (int64_t)take_uleb(&c);
                break;
            case 0x0d: /* def_cfa_register */
                s->cfa_kind = CFA_REG;
                s->cfa_reg = take_uleb(&c);
                break;
            case 0x0e: /* def_cfa_offset */
                s->cfa_off = (int64_t)take_uleb(&c);
                break;
            case 0x0f: /* def_cfa_expression */
                s->cfa_kind = CFA_EXPR;
                s->cfa_expr = take_block(&c);
                break;
            case 0x10: /* expression */
                reg = take_uleb(&c);
                struct expr e = take_block(&c);
                set_rule(s, reg, RULE_EXPR, 0);
                if (reg == TT_ARCH_DW_RBP)
                    s->rbp_expr = e;
                break;
            case 0x11: /* offset_extended_sf */
                reg = take_uleb(&c);
                set_rule(s, reg, RULE_OFFSET, take_sleb(&c) * cie->data_align);
                break;
            case 0x12: /* def_cfa_sf */
                s->cfa_kind = CFA_REG;
                s->cfa_reg = take_uleb(&c);
                s->cfa_off = take_sleb(&c) * cie->data_align;
                break;
            case 0x13: /* def_cfa_offset_sf */
                s->cfa_off = take_sleb(&c) * cie->data_align;
                break;
            case 0x14: /* val_offset */
            case 0x15: /* val_offset_sf */
                reg = take_uleb(&c);
                take_uleb(&c);
                set_rule(s, reg, RULE_OTHER, 0);
                break;
            case 0x16: /* val_expression */
                reg = take_uleb(&c);
                take_block(&c);
                set_rule(s, reg, RULE_OTHER, 0);
                break;
            case 0x2e: /* GNU_args_size */
                take_uleb(&c);
                break;
            default:
                return -1;
            }
        }
        loc += advance;
        if (loc > stop)
            return 0;
    }
    return c.bad ? -1 : 0;
}

/* The expressions that compilers and linkers produce at places where calls return: the PLT's
 * (rsp + 8 + ((rip & 15) >= N) * 8, here with the pc already known) and *(rbp - n) of functions
 * that realign their stack. */
static void cfa_expression(const struct expr *e, uint64_t pc, struct tt_row *row)
{
    struct cursor c = {e->at, e->at + e->bytes, 0};
    uint64_t op = take(&c, 1);
    int64_t off = take_sleb(&c);
    if (op == 0x77 && take(&c, 1) == 0x80 && take_sleb(&c) == 0 && take(&c, 1) == 0x3f &&
        take(&c, 1) == 0x1a) {
        uint64_t limit = take(&c, 1) - 0x30;
        if (limit < 16 && take(&c, 1) == 0x2a && take(&c, 1) == 0x33 && take(&c, 1) == 0x24 &&
            take(&c, 1) == 0x22 && !c.bad) {
            row->kind = TT_ROW_RSP;
            row->cfa_off = (int32_t)off + ((pc & 15) >= limit ? 8 : 0);
        }
    } else if (op == 0x76 && take(&c, 1) == 0x06 && c.at == c.end && !c.bad) {
        row->kind = TT_ROW_RBP_DEREF;
        row->cfa_off = (int32_t)off;
    }
}

static struct tt_row to_row(const struct state *s, uint64_t pc)
{
    struct tt_row row = {TT_ROW_NONE, TT_RBP_LOST, 0, 0};
    if (s->ra == RULE_UNDEFINED) {
        row.kind = TT_ROW_END;
        return row;
    }
    if (s->ra != RULE_OFFSET)
        return row;
    if (s->cfa_kind == CFA_EXPR) {
        cfa_expression(&s->cfa_expr, pc, &row);
    } else if (s->cfa_off > -0x40000000 && s->cfa_off < 0x40000000) {
        if (s->cfa_reg == TT_ARCH_DW_RSP)
            row.kind = TT_ROW_RSP;
        else if (s->cfa_reg == TT_ARCH_DW_RBP)
            row.kind = TT_ROW_RBP;
        row.cfa_off = (int32_t)s->cfa_off;
    }
    if (s->rbp == RULE_SAME) {
        row.rbp = TT_RBP_SAME;
    } else if (s->rbp == RULE_OFFSET && s->rbp_off >= -32768 && s->rbp_off < 32768) {
        row.rbp = TT_RBP_AT_CFA;
        row.rbp_off = (int16_t)s->rbp_off;
    } else if (s->rbp == RULE_EXPR) {
        struct cursor c = {s->rbp_expr.at, s->rbp_expr.at + s->rbp_expr.bytes, 0};
        uint64_t op = take(&c, 1);
        int64_t off = take_sleb(&c);
        if (op == 0x76 && c.at == c.end && !c.bad && off >= -32768 && off < 32768) {
            row.rbp = TT_RBP_AT_RBP;
            row.rbp_off = (int16_t)off;
        }
    }
    return row;
}

struct tt_row tt_dwarf_row(uint64_t pc)
{
    struct tt_row none = {TT_ROW_NONE, TT_RBP_LOST, 0, 0};
    struct tt_map code;
    uint64_t header;
    if (!tt_maps_find(pc, &code, &header) || !(code.is & TT_IS_EXEC))
        return none;
    /* The restorer's FDE starts one byte early, and pc here is ra - 1: test the code at ra. */
    uint64_t word = 0;
    if (code.is & TT_IS_READ && code.hi - pc > 9)
        __builtin_memcpy(&word, (const void *)(pc + 2), 8);
    if (word == TT_ARCH_RESTORER && *(const uint8_t *)(pc + 1) == 0x48) {
        none.kind = TT_ROW_SIGNAL;
        return none;
    }
    uint64_t hdr = header ? find_eh_frame_hdr(header) : 0;
    uint64_t address = hdr ? find_fde(hdr, pc) : 0;
    if (!address)
        return none;
    struct cursor c = at(address);
    uint64_t length = take(&c, 4);
    if (c.bad || length == 0 || length >= 0xfffffff0 || length > (uint64_t)(c.end - c.at))
        return none;
    c.end = c.at + length;
    uint64_t cie_field = (uint64_t)c.at, delta = take(&c, 4);
    struct cie cie;
    if (c.bad || delta == 0 || read_cie(cie_field - delta, &cie) != 0)
        return none;
    uint64_t start = take_pointer(&c, cie.pointer_enc);
    uint64_t range = take_pointer(&c, cie.pointer_enc & 0x0f);
    if (c.bad || pc < start || pc - start >= range)
        return none;
    if (cie.has_data)
        skip(&c, take_uleb(&c));
    struct state zero = {CFA_NONE, RULE_SAME, RULE_SAME, 0, 0, 0, {0, 0}, {0, 0}};
    struct state initial = zero;
    if (run(cie.program, &cie, ~0ULL, &zero, &initial) != 0)
        return none;
    struct state s = initial;
    if (run(c, &cie, pc - start, &initial, &s) != 0)
        return none;
    return to_row(&s, pc);
}
