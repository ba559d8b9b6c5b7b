/* SPDX-License-Identifier: Apache-2.0 */
/* One recorded mapping as elfutils sees it: the file placed where the target had it, the compile
 * unit of a pc, and source positions. The recorded start and file offset give the bias, so nothing
 * is asked of a live process. Start: tt_symbol_image_open. */
#include <dwarf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "symbol/internal.h"

static const Dwfl_Callbacks callbacks = {
    .find_elf = dwfl_build_id_find_elf, /* never called: dwfl_report_elf brings the file */
    .find_debuginfo = tt_symbol_locate_debug,
    .section_address = dwfl_offline_section_address,
};

static void warn(struct tt_symbols *symbols, const char *fmt, const char *path)
{
    char text[1024];
    snprintf(text, sizeof text, fmt, path);
    const char *kept = tt_symbol_intern(symbols, text);
    if (tt_vec_push(&symbols->warnings, kept))
        symbols->out_of_memory = true;
}

/* The bias by the program header that the mapping shows. A separate debug file keeps the headers'
 * addresses but not their offsets, so there the executable segment stands for itself; the mapping
 * is then taken to begin where the segment does. */
static bool find_bias(struct tt_symbol_image *image, int fd)
{
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    GElf_Ehdr ehdr;
    size_t n = 0;
    bool found = false;
    if (!elf || !gelf_getehdr(elf, &ehdr) || elf_getphdrnum(elf, &n))
        goto out;
    if (ehdr.e_type == ET_EXEC) {
        image->bias = 0;
        found = true;
        goto out;
    }
    for (int by_offset = !image->is_debug; by_offset >= 0 && !found; by_offset--) {
        for (size_t i = 0; i < n && !found; i++) {
            GElf_Phdr phdr;
            if (!gelf_getphdr(elf, (int)i, &phdr) || phdr.p_type != PT_LOAD)
                continue;
            uint64_t page = phdr.p_align > 1 ? phdr.p_align - 1 : 0;
            uint64_t offset = phdr.p_offset & ~page, address = phdr.p_vaddr & ~page;
            if (by_offset && image->module.file_offset >= offset &&
                image->module.file_offset < phdr.p_offset + phdr.p_filesz &&
                (phdr.p_flags & PF_X)) {
                image->bias = image->module.start -
                              (phdr.p_vaddr + (image->module.file_offset - phdr.p_offset));
                found = true;
            } else if (!by_offset && (phdr.p_flags & PF_X)) {
                image->bias = image->module.start - address;
                found = true;
            }
        }
    }
out:
    if (elf)
        elf_end(elf);
    return found;
}

static void place(struct tt_symbol_image *image, int fd, const char *path)
{
    image->dwfl = dwfl_begin(&callbacks);
    if (!image->dwfl) {
        close(fd);
        return;
    }
    dwfl_report_begin(image->dwfl);
    Dwfl_Module *mod = dwfl_report_elf(image->dwfl, image->path, path, fd, image->bias, true);
    if (!mod)
        close(fd);
    if (dwfl_report_end(image->dwfl, NULL, NULL) || !mod)
        return;
    void **userdata;
    dwfl_module_info(mod, &userdata, NULL, NULL, NULL, NULL, NULL, NULL);
    *userdata = image;
    /* Symbol 0 is the empty one of every table. */
    Dwarf_Addr bias;
    if (dwfl_module_getsymtab(mod) > 1 || dwfl_module_getdwarf(mod, &bias))
        image->mod = mod;
}

bool tt_symbol_image_open(struct tt_symbol_image *image)
{
    if (image->tried)
        return image->mod != NULL;
    image->tried = true;
    if (image->path[0] != '/')
        return false; /* [vdso], anonymous code */
    char *path = NULL;
    int fd = tt_symbol_locate(image, &path);
    if (fd >= 0) {
        if (find_bias(image, fd))
            place(image, fd, path);
        else
            close(fd);
    }
    free(path);
    if (image->changed)
        warn(image->owner,
             image->mod ? "%s changed since the recording; the recorded build was found elsewhere"
                        : "%s changed since the recording: its functions are not named",
             image->path);
    else if (fd < 0)
        warn(image->owner,
             "%s was not found: its functions are not named (--sysroot, --debug-path)",
             image->path);
    else if (!image->mod)
        warn(image->owner,
             "%s has no symbols: its functions are not named (install its debug symbols, or give "
             "--debug-path or DEBUGINFOD_URLS)",
             image->path);
    return image->mod != NULL;
}

/* elfutils before 0.192 finds compile units only through .debug_aranges, which clang and others
 * leave out; then the units' own ranges are collected once per image. */
static void index_units(struct tt_symbol_image *image)
{
    Dwarf_Die *cu = NULL;
    Dwarf_Addr bias;
    image->units_indexed = true;
    while ((cu = dwfl_module_nextcu(image->mod, cu, &bias))) {
        Dwarf_Addr base, start, end;
        for (ptrdiff_t at = 0; (at = dwarf_ranges(cu, at, &base, &start, &end)) > 0;) {
            struct tt_symbol_unit unit = {start, end, dwarf_dieoffset(cu)};
            if (tt_vec_push(&image->units, unit))
                return;
        }
    }
}

Dwarf_Die *tt_symbol_unit_at(struct tt_symbol_image *image, uint64_t pc, Dwarf_Die *room,
                             Dwarf_Addr *bias)
{
    Dwarf *dwarf = dwfl_module_getdwarf(image->mod, bias);
    image->lineless = !dwarf;
    if (!dwarf)
        return NULL;
    Dwarf_Die *cu = dwfl_module_addrdie(image->mod, pc, bias);
    if (cu)
        return cu;
    if (!image->units_indexed)
        index_units(image);
    for (size_t i = 0; i < image->units.len; i++) {
        const struct tt_symbol_unit *unit = &image->units.data[i];
        if (pc - *bias >= unit->start && pc - *bias < unit->end)
            return dwarf_offdie(dwarf, unit->die, room);
    }
    return NULL;
}

const char *tt_symbol_source(struct tt_symbol_image *image, Dwarf_Die *cu, const char *file)
{
    if (!file)
        return "";
    if (file[0] == '/')
        return tt_symbol_intern(image->owner, file);
    Dwarf_Attribute attr;
    const char *dir = dwarf_formstring(dwarf_attr(cu, DW_AT_comp_dir, &attr));
    char *joined = NULL;
    if (!dir || asprintf(&joined, "%s/%s", dir, file) < 0)
        return tt_symbol_intern(image->owner, file);
    const char *kept = tt_symbol_intern(image->owner, joined);
    free(joined);
    return kept;
}

bool tt_symbol_line_at(struct tt_symbol_image *image, uint64_t pc, const char **file,
                       unsigned *line)
{
    *file = "";
    *line = 0;
    Dwarf_Addr bias;
    Dwarf_Die room, *cu = tt_symbol_unit_at(image, pc, &room, &bias);
    Dwarf_Line *record = cu ? dwarf_getsrc_die(cu, pc - bias) : NULL;
    int number = 0;
    if (!record || dwarf_lineno(record, &number) || number < 0)
        return false;
    *file = tt_symbol_source(image, cu, dwarf_linesrc(record, NULL, NULL));
    *line = (unsigned)number;
    return true;
}
