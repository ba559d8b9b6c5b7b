/* SPDX-License-Identifier: Apache-2.0 */
/* Moving the first instructions of a function: a length decoder for what compilers emit there,
 * with rip-relative operands and branches re-aimed. A call is refused, since its return address
 * would lie outside the function and break unwinding; so is anything not in the tables.
 * Encoding: Intel SDM volume 2, chapter 2 and appendix A. Start: tt_relocate. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "inject/internal.h"

enum { IMM0, IMM8, IMMZ, IMMV, KIND_MASK = 3, MODRM = 4, OK = 8 };

/* One-byte opcodes 00..ff that may be moved: OK | MODRM | size of the immediate. */
static uint8_t one_byte(uint8_t op)
{
    if (op < 0x40) { /* add or adc sbb and sub xor cmp: Eb,Gb Ev,Gv Gb,Eb Gv,Ev AL,Ib rAX,Iz */
        uint8_t low = op & 7;
        return low < 4 ? OK | MODRM : low == 4 ? OK | IMM8 : low == 5 ? OK | IMMZ : 0;
    }
    if (op >= 0x50 && op <= 0x5f) /* push pop */
        return OK;
    if (op >= 0xb8 && op <= 0xbf) /* mov r, imm32 or imm64 */
        return OK | IMMV;
    switch (op) {
    case 0x63: /* movsxd */
    case 0x84:
    case 0x85: /* test */
    case 0x88:
    case 0x89:
    case 0x8a:
    case 0x8b: /* mov */
    case 0x8d: /* lea */
    case 0xd1:
    case 0xd3: /* shifts by 1, cl */
        return OK | MODRM;
    case 0x6b: /* imul Gv,Ev,Ib */
    case 0x80:
    case 0x83: /* group 1 Ib */
    case 0xc0:
    case 0xc1: /* shifts by Ib */
    case 0xc6: /* mov Eb,Ib */
        return OK | MODRM | IMM8;
    case 0x69: /* imul Gv,Ev,Iz */
    case 0x81: /* group 1 Iz */
    case 0xc7: /* mov Ev,Iz */
        return OK | MODRM | IMMZ;
    case 0x68: /* push Iz */
        return OK | IMMZ;
    case 0x6a: /* push Ib */
    case 0xa8: /* test al,Ib */
        return OK | IMM8;
    case 0xa9: /* test eax,Iz */
        return OK | IMMZ;
    case 0x90: /* nop */
    case 0x98:
    case 0x99: /* cdqe cqo */
        return OK;
    default:
        return 0;
    }
}

/* 0f xx */
static uint8_t two_byte(uint8_t op)
{
    if (op >= 0x40 && op <= 0x4f) /* cmovcc */
        return OK | MODRM;
    if (op >= 0x90 && op <= 0x9f) /* setcc */
        return OK | MODRM;
    switch (op) {
    case 0x10:
    case 0x11:
    case 0x12:
    case 0x13:
    case 0x14:
    case 0x16:
    case 0x17: /* mov[ul]ps/pd */
    case 0x18:
    case 0x1e:
    case 0x1f: /* prefetch, endbr64 (f3 0f 1e fa), nop Ev */
    case 0x28:
    case 0x29:
    case 0x2a:
    case 0x2c:
    case 0x2d:
    case 0x2e:
    case 0x2f: /* movaps cvt ucomis */
    case 0x54:
    case 0x57:
    case 0x58:
    case 0x59:
    case 0x5c:
    case 0x5e: /* and xor add mul sub div ps */
    case 0x60:
    case 0x61:
    case 0x62:
    case 0x6c:
    case 0x6e:
    case 0x6f: /* punpck movd movdqa */
    case 0x7e:
    case 0x7f:
    case 0xd6:
    case 0xef:
    case 0xeb:
    case 0xdb: /* movq pxor por pand */
    case 0xaf:
    case 0xb6:
    case 0xb7:
    case 0xbe:
    case 0xbf: /* imul movzx movsx */
    case 0xa3:
    case 0xbc:
    case 0xbd: /* bt bsf bsr */
        return OK | MODRM;
    case 0x70:
    case 0xc6:
    case 0xba: /* pshufd shufps, bt Ib */
        return OK | MODRM | IMM8;
    default:
        return 0;
    }
}

/* What may not be moved but has a length: to walk over a function's code. */
static uint8_t one_byte_more(uint8_t op)
{
    switch (op) {
    case 0xe8: /* call */
        return OK | IMMZ;
    case 0xc3:
    case 0xc9:
    case 0xcc:
    case 0xf4: /* ret leave int3 hlt */
    case 0xa4:
    case 0xa5:
    case 0xaa:
    case 0xab: /* movs stos */
        return OK;
    case 0x86:
    case 0x87: /* xchg */
    case 0xd0:
    case 0xd2: /* shifts of bytes */
    case 0xd8:
    case 0xd9:
    case 0xda:
    case 0xdb:
    case 0xdc:
    case 0xdd:
    case 0xde:
    case 0xdf: /* x87 */
    case 0xfe:
    case 0xff: /* groups 4 and 5 */
        return OK | MODRM;
    default:
        return 0;
    }
}

static uint8_t two_byte_more(uint8_t op)
{
    if (op == 0x0b || op == 0x05 || op == 0xa2 || (op >= 0xc8 && op <= 0xcf))
        return OK; /* ud2 syscall cpuid bswap */
    if (op == 0x71 || op == 0x72 || op == 0x73 || op == 0xa4 || op == 0xac || op == 0xc2 ||
        op == 0xc4 || op == 0xc5)
        return OK | MODRM | IMM8;
    if ((op >= 0x50 && op <= 0x7f) || (op >= 0xd0 && op <= 0xfe) || op == 0xa5 || op == 0xad ||
        op == 0xab || op == 0xb3 || op == 0xbb || op == 0xb0 || op == 0xb1 || op == 0xc0 ||
        op == 0xc1 || op == 0xc7 || op == 0xae || op == 0xb8 || op == 0x15)
        return OK | MODRM;
    return 0;
}

struct insn {
    size_t len;     /* bytes */
    size_t disp_at; /* offset of a rip-relative disp32, 0 none */
    int branch;     /* 1 jcc rel8, 2 jcc rel32, 3 jmp rel8, 4 jmp rel32, 5 call rel32 */
    uint8_t condition;
    int64_t rel;
};

static int32_t load32(const uint8_t *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* Decodes one instruction of at most n bytes; with `any`, also those that may not be moved. 0 or
 * -EOPNOTSUPP. */
static int decode(const uint8_t *p, size_t n, bool any, struct insn *in, const char **why)
{
    size_t i = 0;
    int wide = 0, small = 0;
    *in = (struct insn){0};
    *why = "an instruction that is not known to be movable";
    while (i < n && (p[i] == 0x66 || p[i] == 0xf2 || p[i] == 0xf3 || p[i] == 0x64 || p[i] == 0x65 ||
                     p[i] == 0x2e)) {
        small |= p[i] == 0x66;
        i++;
    }
    if (i < n && (p[i] & 0xf0) == 0x40)
        wide = (p[i++] & 8) != 0;
    if (i >= n)
        return -EOPNOTSUPP;
    uint8_t op = p[i++], form;
    if (op == 0x0f) {
        if (i >= n)
            return -EOPNOTSUPP;
        op = p[i++];
        if ((op & 0xf0) == 0x80) {
            if (n - i < 4)
                return -EOPNOTSUPP;
            *in = (struct insn){i + 4, 0, 2, op & 15, load32(p + i)};
            return 0;
        }
        form = two_byte(op);
        if (!form && any)
            form = two_byte_more(op);
    } else if ((op & 0xf0) == 0x70 || op == 0xeb) {
        if (n - i < 1)
            return -EOPNOTSUPP;
        *in = (struct insn){i + 1, 0, op == 0xeb ? 3 : 1, op & 15, (int8_t)p[i]};
        return 0;
    } else if (op == 0xe9 || (op == 0xe8 && i == 1)) {
        if (n - i < 4)
            return -EOPNOTSUPP;
        *in = (struct insn){i + 4, 0, op == 0xe9 ? 4 : 5, 0, load32(p + i)};
        return 0;
    } else if ((op == 0xf6 || op == 0xf7) && i < n) { /* group 3: test has an immediate */
        form = OK | MODRM;
        if ((p[i] & 0x30) == 0)
            form |= op == 0xf6 ? IMM8 : IMMZ;
    } else if (op == 0xff && i < n) { /* inc dec push; call and jmp are refused */
        uint8_t reg = p[i] >> 3 & 7;
        form = any || reg <= 1 || reg == 6 ? OK | MODRM : 0;
    } else {
        if (op == 0xc3)
            *why = "the function is shorter than a jump";
        form = one_byte(op);
        if (!form && any)
            form = one_byte_more(op);
    }
    if (!form)
        return -EOPNOTSUPP;
    if (form & MODRM) {
        if (i >= n)
            return -EOPNOTSUPP;
        uint8_t modrm = p[i++], mod = modrm >> 6, rm = modrm & 7;
        if (mod != 3 && rm == 4) {
            if (i >= n)
                return -EOPNOTSUPP;
            if ((p[i++] & 7) == 5 && mod == 0)
                i += 4;
        } else if (mod == 0 && rm == 5) {
            in->disp_at = i;
            i += 4;
        }
        i += mod == 1 ? 1 : mod == 2 ? 4 : 0;
    }
    switch (form & KIND_MASK) {
    case IMM8:
        i += 1;
        break;
    case IMMZ:
        i += small ? 2 : 4;
        break;
    case IMMV:
        i += wide ? 8 : small ? 2 : 4;
        break;
    default:
        break;
    }
    if (i > n)
        return -EOPNOTSUPP;
    in->len = i;
    return 0;
}

static int put32(uint8_t *at, int64_t value)
{
    if (value < INT32_MIN || value > INT32_MAX)
        return -ERANGE;
    int32_t v = (int32_t)value;
    memcpy(at, &v, 4);
    return 0;
}

/* A call becomes a push of the address that it returns to, where it stood, and a jump: so whoever
 * unwinds from inside finds the function. It is the last to be moved, being five bytes long. */
#define CALL_BYTES 18u
static int move_call(uint8_t *o, uint64_t at, uint64_t target, uint64_t after)
{
    static const uint8_t upper[] = {0xc7, 0x44, 0x24, 0x04}; /* movl $imm32, 4(%rsp) */
    uint32_t low = (uint32_t)after, high = (uint32_t)(after >> 32);
    o[0] = 0x68; /* push $imm32 */
    memcpy(o + 1, &low, 4);
    memcpy(o + 5, upper, sizeof upper);
    memcpy(o + 9, &high, 4);
    o[13] = 0xe9;
    return put32(o + 14, (int64_t)(target - (at + CALL_BYTES)));
}

int tt_relocate(const uint8_t *code, size_t n, uint64_t from, uint64_t to, uint8_t *out,
                size_t *out_len, size_t *taken, uint8_t *where, const char **why)
{
    size_t in_at = 0, out_at = 0;
    if (where)
        memset(where, TT_RELOCATE_NOWHERE, TT_RELOCATE_NEED);
    while (in_at < TT_RELOCATE_NEED) {
        if (where)
            where[in_at] = (uint8_t)out_at;
        struct insn in;
        int r = decode(code + in_at, n - in_at, false, &in, why);
        if (r)
            return r;
        if (out_at + in.len + 8 > TT_RELOCATE_MAX)
            return -EOPNOTSUPP;
        uint64_t after = from + in_at + in.len;
        uint8_t *o = out + out_at;
        *why = "a displacement does not reach from the pad";
        if (in.branch == 5) {
            *why = "no room for its first instructions";
            if (out_at + CALL_BYTES > TT_RELOCATE_MAX)
                return -EOPNOTSUPP;
            *why = "a call that does not reach from the pad";
            if (move_call(o, to + out_at, after + (uint64_t)in.rel, after))
                return -ERANGE;
            out_at += CALL_BYTES;
            in_at += in.len;
            break;
        }
        if (in.branch) {
            size_t op = in.branch <= 2 ? 2 : 1;
            if (op == 2) {
                o[0] = 0x0f;
                o[1] = (uint8_t)(0x80 | in.condition);
            } else {
                o[0] = 0xe9;
            }
            uint64_t target = after + (uint64_t)in.rel;
            if (target > from && target < from + TT_RELOCATE_NEED + 16) {
                *why = "a branch into the first instructions";
                return -EOPNOTSUPP;
            }
            if (put32(o + op, (int64_t)(target - (to + out_at + op + 4))))
                return -ERANGE;
            out_at += op + 4;
            in_at += in.len;
            if (op == 1) { /* nothing of the function follows an unconditional jump */
                if (in_at < TT_RELOCATE_NEED) {
                    *why = "the function is shorter than a jump";
                    return -EOPNOTSUPP;
                }
                break;
            }
            continue;
        }
        memcpy(o, code + in_at, in.len);
        if (in.disp_at) {
            int64_t disp = load32(code + in_at + in.disp_at);
            uint64_t target = after + (uint64_t)disp;
            if (put32(o + in.disp_at, (int64_t)(target - (to + out_at + in.len))))
                return -ERANGE;
        }
        out_at += in.len;
        in_at += in.len;
    }
    *out_len = out_at;
    *taken = in_at;
    return 0;
}

/* Any byte position that looks like a near branch into (from, from + taken). */
static int byte_scan(const uint8_t *code, size_t i, size_t n, uint64_t from, size_t taken)
{
    for (; i < n; i++) {
        int64_t rel[2];
        size_t lens[2], k = 0;
        uint8_t op = code[i];
        if (((op & 0xf0) == 0x70 || op == 0xeb || (op & 0xfc) == 0xe0) && i + 2 <= n) {
            rel[k] = (int64_t)(int8_t)code[i + 1];
            lens[k++] = 2;
        }
        if (op == 0xe9 && i + 5 <= n) {
            rel[k] = load32(code + i + 1);
            lens[k++] = 5;
        }
        if (op == 0x0f && i + 6 <= n && (code[i + 1] & 0xf0) == 0x80) {
            rel[k] = load32(code + i + 2);
            lens[k++] = 6;
        }
        while (k-- > 0) {
            uint64_t target = from + i + lens[k] + (uint64_t)rel[k];
            if (target > from && target < from + taken)
                return 1;
        }
    }
    return 0;
}

int tt_relocate_is_target(const uint8_t *code, size_t n, uint64_t from, size_t taken)
{
    size_t i = 0;
    while (i < n) {
        struct insn in;
        const char *why;
        if (decode(code + i, n - i, true, &in, &why))
            return byte_scan(code, i, n, from, taken); /* lost: no boundary is sure any more */
        uint64_t target = from + i + in.len + (uint64_t)in.rel;
        if (in.branch && target > from && target < from + taken)
            return 1;
        i += in.len;
    }
    return 0;
}
