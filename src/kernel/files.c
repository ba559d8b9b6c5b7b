/* SPDX-License-Identifier: Apache-2.0 */
/* The files whose code processes run, opened once for all of them, and what stacks need of them:
 * the unwind rules of an address, and whether a function is the C library's. Start:
 * tt_kernel_files_get. */
#include <elfutils/libdw.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdlib.h>
#include <unistd.h>

#include "kernel/files.h"

struct segment {
    uint64_t offset, end, address; /* of an executable PT_LOAD: in the file, in memory */
};
struct tt_kernel_file {
    uint64_t device, inode;
    Elf *elf;
    Dwarf *dwarf;
    Dwarf_CFI *eh, *debug;
    bool asked_debug;
    TT_VEC(struct segment) segments;
    int fd;
};
struct tt_kernel_files {
    TT_VEC(struct tt_kernel_file *) list;
};

struct tt_kernel_files *tt_kernel_files_new(void)
{
    elf_version(EV_CURRENT);
    return calloc(1, sizeof(struct tt_kernel_files));
}

static void close_file(struct tt_kernel_file *f)
{
    if (f->eh)
        dwarf_cfi_end(f->eh);
    if (f->dwarf)
        dwarf_end(f->dwarf); /* and its .debug_frame */
    elf_end(f->elf);
    if (f->fd >= 0)
        close(f->fd);
    tt_vec_free(&f->segments);
    free(f);
}

void tt_kernel_files_free(struct tt_kernel_files *files)
{
    for (size_t i = 0; files && i < files->list.len; i++)
        close_file(files->list.data[i]);
    if (files)
        tt_vec_free(&files->list);
    free(files);
}

static void read_segments(struct tt_kernel_file *f)
{
    size_t n = 0;
    if (!f->elf || elf_getphdrnum(f->elf, &n))
        return;
    for (size_t i = 0; i < n; i++) {
        GElf_Phdr p;
        if (!gelf_getphdr(f->elf, (int)i, &p) || p.p_type != PT_LOAD || !(p.p_flags & PF_X))
            continue;
        struct segment segment = {p.p_offset & ~4095ULL, p.p_offset + p.p_filesz,
                                  p.p_vaddr - (p.p_offset & 4095)};
        if (tt_vec_push(&f->segments, segment))
            return;
    }
}

struct tt_kernel_file *tt_kernel_files_get(struct tt_kernel_files *files, pid_t pid,
                                           const struct tt_proc_map *map, const char *path)
{
    for (size_t i = 0; i < files->list.len; i++)
        if (files->list.data[i]->device == map->device && files->list.data[i]->inode == map->inode)
            return files->list.data[i];
    struct tt_kernel_file *f = calloc(1, sizeof *f);
    /* a list of pointers: files do not move */
    if (!f || tt_vec_push(&files->list, f)) { /* NOLINT(bugprone-sizeof-expression) */
        free(f);
        return NULL;
    }
    f->device = map->device;
    f->inode = map->inode;
    f->fd = tt_proc_map_open(pid, map, path);
    f->elf = f->fd < 0 ? NULL : elf_begin(f->fd, ELF_C_READ_MMAP, NULL);
    read_segments(f);
    f->eh = f->elf ? dwarf_getcfi_elf(f->elf) : NULL;
    return f;
}

/* .debug_frame costs reading all debug sections' headers: only where .eh_frame has nothing. */
static Dwarf_CFI *debug_frame(struct tt_kernel_file *f)
{
    if (!f->asked_debug) {
        f->asked_debug = true;
        f->dwarf = f->elf ? dwarf_begin_elf(f->elf, DWARF_C_READ, NULL) : NULL;
        f->debug = f->dwarf ? dwarf_getcfi(f->dwarf) : NULL;
    }
    return f->debug;
}

bool tt_kernel_file_address(const struct tt_kernel_file *f, const struct tt_proc_map *map,
                            uint64_t pc, uint64_t *address)
{
    uint64_t at = pc - map->start + map->offset;
    for (size_t i = 0; i < f->segments.len; i++) {
        const struct segment *s = &f->segments.data[i];
        if (at >= s->offset && at < s->end) {
            *address = at - s->offset + s->address;
            return true;
        }
    }
    return false;
}

struct Dwarf_Frame_s *tt_kernel_file_frame(struct tt_kernel_file *f, uint64_t address)
{
    Dwarf_Frame *frame = NULL;
    if ((f->eh && dwarf_cfi_addrframe(f->eh, address, &frame) == 0) ||
        (debug_frame(f) && dwarf_cfi_addrframe(f->debug, address, &frame) == 0))
        return frame;
    return NULL;
}

bool tt_kernel_file_reserved(const struct tt_kernel_file *f, uint64_t address)
{
    for (Elf_Scn *scn = NULL; f->elf && (scn = elf_nextscn(f->elf, scn)) != NULL;) {
        GElf_Shdr head;
        Elf_Data *data;
        if (!gelf_getshdr(scn, &head) || head.sh_type != SHT_SYMTAB || !head.sh_entsize ||
            !(data = elf_getdata(scn, NULL)))
            continue;
        for (int i = 0; i < (int)(head.sh_size / head.sh_entsize); i++) {
            GElf_Sym s;
            const char *name;
            if (gelf_getsym(data, i, &s) && GELF_ST_TYPE(s.st_info) == STT_FUNC &&
                address > s.st_value && address - s.st_value <= s.st_size &&
                (name = elf_strptr(f->elf, head.sh_link, s.st_name)) != NULL && name[0] == '_' &&
                name[1] == '_')
                return true;
        }
    }
    return false;
}
