/* SPDX-License-Identifier: Apache-2.0 */
/* The objects of a running process in its loader's order, from r_debug (the executable, preloads,
 * libraries breadth-first; <link.h>): where each lies, and its tables of symbols and relocations.
 * All of that is read from the process's memory, so that its file system may be another. Start:
 * tt_objects_find. */
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inject/objects.h"

#define OBJECTS_MOST 4096u
#define DYNAMIC_MOST 512u
#define SYMBOLS_MOST (4u << 20)

static uint64_t auxiliary(pid_t pid, uint64_t type)
{
    char path[64];
    uint64_t pair[2], value = 0;
    snprintf(path, sizeof path, "/proc/%d/auxv", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fread(pair, sizeof pair, 1, f) == 1 && pair[0] != AT_NULL)
        if (pair[0] == type)
            value = pair[1];
    if (f)
        fclose(f);
    return value;
}

/* The number of symbols, which only the hash tables tell. */
static uint64_t count_symbols(const struct tt_target *t, uint64_t gnu, uint64_t sysv)
{
    uint32_t head[4], two[2];
    if (!gnu)
        return sysv && tt_target_read(t, sysv, two, sizeof two) == 0 ? two[1] : 0;
    if (tt_target_read(t, gnu, head, sizeof head) || head[0] > SYMBOLS_MOST ||
        head[2] > SYMBOLS_MOST)
        return 0;
    uint64_t buckets = gnu + 16 + 8ULL * head[2], last = 0;
    uint32_t *bucket = malloc(head[0] * sizeof *bucket);
    if (bucket && tt_target_read(t, buckets, bucket, head[0] * sizeof *bucket) == 0)
        for (uint32_t i = 0; i < head[0]; i++)
            last = bucket[i] > last ? bucket[i] : last;
    free(bucket);
    if (last < head[1])
        return head[1];
    for (uint64_t chain = buckets + 4ULL * head[0]; last < SYMBOLS_MOST; last++) {
        uint32_t hash;
        if (tt_target_read(t, chain + 4 * (last - head[1]), &hash, 4))
            return 0;
        if (hash & 1)
            return last + 1;
    }
    return 0;
}

static void read_dynamic(const struct tt_target *t, uint64_t at, struct tt_object *o)
{
    Elf64_Dyn dyn[DYNAMIC_MOST];
    uint64_t gnu = 0, sysv = 0;
    ssize_t got = pread(t->mem, dyn, sizeof dyn, (off_t)at);
    for (ssize_t i = 0; i < got / (ssize_t)sizeof dyn[0] && dyn[i].d_tag != DT_NULL; i++) {
        uint64_t value = dyn[i].d_un.d_val;
        /* glibc relocates these in place; where it does not, they are below the object. */
        uint64_t pointer = value < o->start ? value + o->bias : value;
        switch (dyn[i].d_tag) {
        case DT_SYMTAB:
            o->symtab = pointer;
            break;
        case DT_STRTAB:
            o->strtab = pointer;
            break;
        case DT_STRSZ:
            o->strsz = value;
            break;
        case DT_GNU_HASH:
            gnu = pointer;
            break;
        case DT_HASH:
            sysv = pointer;
            break;
        case DT_RELA:
            o->rela = pointer;
            break;
        case DT_RELASZ:
            o->relasz = value;
            break;
        case DT_JMPREL:
            o->jmprel = pointer;
            break;
        case DT_PLTRELSZ:
            o->pltrelsz = value;
            break;
        default:
            break;
        }
    }
    o->symbols = count_symbols(t, gnu, sysv);
}

/* The mappings of the file that holds `inside`. */
static void set_extent(const struct tt_target *t, uint64_t inside, struct tt_object *o)
{
    const struct tt_proc_map *m = tt_proc_map_at(&t->maps, inside);
    o->start = m ? m->start : 0;
    o->end = m ? m->end : 0;
    for (size_t i = 0; m && m->inode && i < t->maps.maps.len; i++) {
        const struct tt_proc_map *other = &t->maps.maps.data[i];
        if (other->inode != m->inode || other->device != m->device ||
            (other->start > inside ? other->start - inside : inside - other->start) > 1ULL << 32)
            continue;
        o->start = other->start < o->start ? other->start : o->start;
        o->end = other->end > o->end ? other->end : o->end;
    }
}

static int add_object(const struct tt_target *t, struct tt_found *out, const char *path,
                      uint64_t bias, uint64_t dynamic)
{
    struct tt_object o = {.bias = bias};
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    snprintf(o.path, sizeof o.path, "%s", path);
    o.libc = strncmp(base, "libc.so.", 8) == 0 || strncmp(base, "libc-2.", 7) == 0;
    set_extent(t, dynamic, &o);
    read_dynamic(t, dynamic, &o);
    return tt_vec_push(&out->objects, o);
}

static int refuse_object(const struct tt_target *t, const char *path, struct tt_error *err)
{
    if (strstr(path, "libtelltale-agent"))
        return tt_error_set(err, -EBUSY,
                            "cannot attach to process %d: telltale run started it and its agent "
                            "is in it already",
                            (int)t->pid);
    if (strstr(path, "ld-musl") || strstr(path, "libc.musl"))
        return tt_find_refuse(t, "it uses the musl C library, and the agent is made for glibc",
                              err);
    return 0;
}

/* One walk of the list; -EAGAIN when it was being changed. */
static int walk_list(const struct tt_target *t, uint64_t debug, struct tt_found *out,
                     struct tt_error *err)
{
    struct {
        uint32_t version, pad;
        uint64_t map, brk;
        uint32_t state;
    } r;
    struct {
        uint64_t addr, name, ld, next;
    } link;
    out->objects.len = 0;
    if (tt_target_read(t, debug, &r, sizeof r) || r.state != RT_CONSISTENT || !r.map)
        return -EAGAIN;
    for (uint64_t at = r.map; at; at = link.next) {
        char path[PATH_MAX];
        if (out->objects.len > OBJECTS_MOST || tt_target_read(t, at, &link, sizeof link))
            return -EAGAIN;
        tt_target_read_text(t, link.name, path, sizeof path);
        int code = refuse_object(t, path, err);
        if (code)
            return code;
        if (strncmp(path, "linux-vdso", 10) != 0 &&
            add_object(t, out, path, link.addr, link.ld) != 0)
            return -ENOMEM;
    }
    return 0;
}

struct program {
    uint64_t bias, dynamic, interp;
};

static int read_program(const struct tt_target *t, struct program *p)
{
    uint64_t at = auxiliary(t->pid, AT_PHDR), n = auxiliary(t->pid, AT_PHNUM);
    Elf64_Phdr ph[64];
    *p = (struct program){0};
    if (!at || n > 64 || tt_target_read(t, at, ph, n * sizeof ph[0]))
        return -EIO;
    const struct tt_proc_map *m = tt_proc_map_at(&t->maps, at);
    for (uint64_t i = 0; i < n; i++)
        if (ph[i].p_type == PT_PHDR)
            p->bias = at - ph[i].p_vaddr;
        else if (ph[i].p_type == PT_LOAD && ph[i].p_offset == 0 && !p->bias && m)
            p->bias = m->start - ph[i].p_vaddr;
    for (uint64_t i = 0; i < n; i++) {
        if (ph[i].p_type == PT_DYNAMIC)
            p->dynamic = p->bias + ph[i].p_vaddr;
        if (ph[i].p_type == PT_INTERP)
            p->interp = p->bias + ph[i].p_vaddr;
    }
    return 0;
}

static int read_list(const struct tt_target *t, const struct program *p, struct tt_found *out,
                     struct tt_error *err)
{
    int code = -EAGAIN;
    for (int tries = 0; code == -EAGAIN && tries < 50; tries++) {
        Elf64_Dyn dyn[DYNAMIC_MOST];
        uint64_t debug = 0;
        ssize_t got = pread(t->mem, dyn, sizeof dyn, (off_t)p->dynamic);
        for (ssize_t i = 0; i < got / (ssize_t)sizeof dyn[0] && dyn[i].d_tag != DT_NULL; i++)
            if (dyn[i].d_tag == DT_DEBUG)
                debug = dyn[i].d_un.d_ptr;
        code = debug ? walk_list(t, debug, out, err) : -EAGAIN;
        if (code == -EAGAIN)
            usleep(2000);
    }
    if (code == -EAGAIN)
        return tt_error_set(err, code,
                            "cannot attach to process %d: its loader is still at work; try again",
                            (int)t->pid);
    return code == -ENOMEM ? tt_error_set(err, code, "out of memory") : code;
}

int tt_objects_find(const struct tt_target *target, struct tt_found *out, bool *is_static,
                    struct tt_error *err)
{
    struct program p;
    if (read_program(target, &p) != 0)
        return tt_find_refuse(target, "its program headers cannot be read", err);
    out->entry = auxiliary(target->pid, AT_ENTRY);
    *is_static = !p.interp;
    if (!*is_static)
        return read_list(target, &p, out, err);
    int code = add_object(target, out, "", p.bias, auxiliary(target->pid, AT_PHDR));
    if (code == 0) /* what was read there are not dynamic entries */
        out->objects.data[0].symbols = out->objects.data[0].relasz = out->objects.data[0].pltrelsz =
            0;
    return code;
}
