/* SPDX-License-Identifier: Apache-2.0 */
/* What programs tell themselves (include/telltale.h): notes in their files say where, each place
 * leads to a function of its name once it is made a jump, and that function is watched or counted
 * like any other. Resources get their kinds after those of --handle, by name. Start: tt_probe_list.
 */
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record/internal.h"

#define NOTE_NAME "telltale"
#define FUNCTION_BYTES 8u /* of the header's own */
#define PROBES_MOST 4096u
#define TOLD_MOST 64u

/* ---- notes of a file ---- */

static bool take_text(const char **at, const char *end, char *out, size_t size)
{
    size_t n = strnlen(*at, (size_t)(end - *at));
    if (n == (size_t)(end - *at) || n == 0 || n >= size)
        return false;
    memcpy(out, *at, n + 1);
    *at += n + 1;
    return true;
}

static bool read_note(Elf *elf, const char *desc, size_t size, struct tt_probe *probe)
{
    uint64_t addresses[3];
    if (size < sizeof addresses)
        return false;
    memcpy(addresses, desc, sizeof addresses);
    const char *at = desc + sizeof addresses, *end = desc + size;
    return take_text(&at, end, probe->role, sizeof probe->role) &&
           take_text(&at, end, probe->name, sizeof probe->name) &&
           tt_library_offset(elf, addresses[0], &probe->at) &&
           tt_library_offset(elf, addresses[1], &probe->to) &&
           tt_library_offset(elf, addresses[2], &probe->function);
}

static void read_notes(Elf *elf, Elf_Data *data, struct tt_probed *file)
{
    size_t at = 0, name, desc;
    GElf_Nhdr head;
    while (data && (at = gelf_getnote(data, at, &head, &name, &desc)) > 0) {
        const char *bytes = data->d_buf;
        struct tt_probe probe = {0};
        if (head.n_namesz == sizeof NOTE_NAME &&
            memcmp(bytes + name, NOTE_NAME, sizeof NOTE_NAME) == 0 &&
            read_note(elf, bytes + desc, head.n_descsz, &probe) && file->probes.len < PROBES_MOST &&
            tt_vec_push(&file->probes, probe))
            return;
    }
}

static void read_file(int fd, struct tt_probed *file)
{
    size_t names;
    elf_version(EV_CURRENT);
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    if (elf && elf_getshdrstrndx(elf, &names) == 0)
        for (Elf_Scn *s = elf_nextscn(elf, NULL); s; s = elf_nextscn(elf, s)) {
            GElf_Shdr header;
            if (!gelf_getshdr(s, &header) || header.sh_type != SHT_NOTE)
                continue;
            const char *name = elf_strptr(elf, names, header.sh_name);
            if (name && strcmp(name, ".note.telltale") == 0)
                read_notes(elf, elf_getdata(s, NULL), file);
        }
    elf_end(elf);
}

static const struct tt_probed *probed(struct tt_recorder *rec, const struct tt_image *image,
                                      const struct tt_session_module *module)
{
    for (size_t i = 0; i < rec->probed.len; i++)
        if (strcmp(rec->probed.data[i].path, module->path) == 0 &&
            strcmp(rec->probed.data[i].build_id, module->build_id) == 0)
            return &rec->probed.data[i];
    const struct tt_proc_map *map = tt_proc_map_at(&image->maps, module->start);
    int fd = map && *module->path == '/' ? tt_modules_open(image, map) : -1;
    if (fd < 0)
        return NULL;
    struct tt_probed file = {0};
    snprintf(file.path, sizeof file.path, "%s", module->path);
    snprintf(file.build_id, sizeof file.build_id, "%s", module->build_id);
    read_file(fd, &file);
    close(fd);
    if (tt_vec_push(&rec->probed, file)) {
        tt_vec_free(&file.probes);
        return NULL;
    }
    return &rec->probed.data[rec->probed.len - 1];
}

/* ---- among the watches ---- */

/* The index that kind and space of a resource have behind their first declared one; -1 too many. */
static int index_of(struct tt_recorder *rec, const struct tt_probe *probe)
{
    for (size_t i = 0; i < rec->options->n_handles; i++)
        if (strcmp(rec->options->handles[i].name, probe->name) == 0)
            return (int)i;
    for (size_t i = 0; i < rec->told.len; i++)
        if (strcmp(rec->told.data[i].name, probe->name) == 0)
            return (int)(TT_HANDLES_MOST + i);
    if (rec->told.len >= TOLD_MOST || tt_vec_push(&rec->told, *probe))
        return -1;
    return (int)(TT_HANDLES_MOST + rec->told.len - 1);
}

static void add_watch(struct tt_recorder *rec, struct tt_image *image, const struct tt_probe *probe,
                      uint64_t function)
{
    struct tt_watched w = {
        .address = function,
        .size = FUNCTION_BYTES,
        .index = -1,
        .declared = true,
        .handle = -1,
        .row = {.address = function, .from = TT_FROM_ARG0, .flags = TT_WATCH_WIDE}};
    if (strcmp(probe->role, "owner") == 0) {
        w.row.what = TT_WATCH_OWNER;
        w.row.space = TT_SPACE_FD;
        w.row.flags = 0;
    } else {
        int index = index_of(rec, probe);
        if (index < 0)
            return;
        w.row.what = probe->role[0] == 'a' ? TT_WATCH_ACQUIRE : TT_WATCH_RELEASE;
        w.row.space = (uint8_t)(TT_SPACE_DECLARED + index);
        w.row.kind = (uint8_t)(TT_KIND_DECLARED + index);
        snprintf(w.resource, sizeof w.resource, "%s", probe->name);
    }
    snprintf(w.function, sizeof w.function, "telltale_%s_%s", probe->role, probe->name);
    snprintf(w.source, sizeof w.source, "declared");
    for (size_t i = 0; i < image->watched.len; i++)
        if (image->watched.data[i].address == function)
            return;
    int failed = tt_vec_push(&image->watched, w);
    (void)failed;
}

static void take(struct tt_recorder *rec, struct tt_image *image, const struct tt_probe *probe,
                 uint64_t base)
{
    struct tt_inject_jump jump = {base + probe->at, base + probe->to, false};
    uint64_t function = base + probe->function;
    for (size_t i = 0; i < image->jumps.len; i++)
        if (image->jumps.data[i].at == jump.at)
            return;
    if (strcmp(probe->role, "operation") == 0) {
        char name[sizeof probe->name + 24];
        snprintf(name, sizeof name, "telltale_operation_%s", probe->name);
        tt_count_add(image, probe->name, name, function, FUNCTION_BYTES);
    } else if (strcmp(probe->role, "acquire") == 0 || strcmp(probe->role, "release") == 0 ||
               strcmp(probe->role, "owner") == 0) {
        add_watch(rec, image, probe, function);
    } else {
        return; /* of a later header */
    }
    if (tt_vec_push(&image->jumps, jump) == 0 && tt_vec_push(&image->jump_to, function))
        image->jumps.len--;
}

void tt_probe_list(struct tt_recorder *rec, struct tt_image *image)
{
    size_t n;
    if (image->probes_read_ns == image->modules_read_ns)
        return;
    image->probes_read_ns = image->modules_read_ns;
    struct tt_session_module *modules = tt_modules_now(image, &n);
    for (size_t i = 0; modules && i < n; i++) {
        const struct tt_probed *file = probed(rec, image, &modules[i]);
        for (size_t k = 0; file && k < file->probes.len; k++) {
            const struct tt_probe *p = &file->probes.data[k];
            uint64_t bytes = modules[i].end - modules[i].start, from = modules[i].file_offset;
            if (p->at >= from && p->at - from < bytes && p->to >= from && p->to - from < bytes &&
                p->function >= from && p->function - from < bytes)
                take(rec, image, p, modules[i].start - from);
        }
    }
    free(modules);
}

/* Whether the function at an address is watched or counted by now. */
static bool in_place(const struct tt_image *image, uint64_t function)
{
    for (size_t i = 0; i < image->watched.len; i++)
        if (image->watched.data[i].address == function)
            return image->watched.data[i].index >= 0 && !image->watched.data[i].silent;
    for (size_t i = 0; i < image->operations.len; i++)
        if (image->operations.data[i].address == function)
            return image->operations.data[i].slot >= 0;
    return false;
}

void tt_probe_switch(struct tt_image *image, bool on)
{
    struct tt_inject_jump *jumps = calloc(image->jumps.len + 1, sizeof *jumps);
    size_t *which = calloc(image->jumps.len + 1, sizeof *which), n = 0;
    struct tt_error err;
    for (size_t i = 0; jumps && which && i < image->jumps.len; i++) {
        if (image->jumps.data[i].done == on || (on && !in_place(image, image->jump_to.data[i])))
            continue;
        which[n] = i;
        jumps[n++] = image->jumps.data[i];
    }
    if (n && tt_inject_jumps((pid_t)image->pid, jumps, n, on, &err) == 0)
        for (size_t i = 0; i < n; i++)
            image->jumps.data[which[i]].done =
                jumps[i].done ? on : image->jumps.data[which[i]].done;
    free(jumps);
    free(which);
}

void tt_probes_free(struct tt_recorder *rec)
{
    for (size_t i = 0; i < rec->probed.len; i++)
        tt_vec_free(&rec->probed.data[i].probes);
    tt_vec_free(&rec->probed);
    tt_vec_free(&rec->told);
}
