/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the file that was recorded, and its debug information. The rule throughout: a file with
 * the right name and the wrong build-id is worse than none, because its names would be believed.
 * dwfl_standard_find_debuginfo is not used: it asks debuginfod whenever the environment names a
 * server, and the recording side must never do that. Start: tt_symbol_locate. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <elfutils/libdwelf.h>

#include "symbol/internal.h"

enum { BUILD_ID_HEX = 129 }; /* 64 bytes is more than any linker writes */

/* A regular file, opened for reading; never blocks on what only looks like one. */
static int open_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd >= 0 && (fstat(fd, &st) || !S_ISREG(st.st_mode))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void to_hex(char out[BUILD_ID_HEX], const void *bits, ssize_t n)
{
    out[0] = '\0';
    for (ssize_t i = 0; i < n && 2 * i + 2 < BUILD_ID_HEX; i++)
        snprintf(out + 2 * i, 3, "%02x", ((const unsigned char *)bits)[i]);
}

/* The file's build-id in hex, "" if it has none. False if it is no ELF file. */
static bool build_id_of(int fd, char out[BUILD_ID_HEX])
{
    out[0] = '\0';
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    if (!elf)
        return false;
    bool is_elf = elf_kind(elf) == ELF_K_ELF;
    if (is_elf) {
        const void *bits = NULL;
        ssize_t n = dwelf_elf_gnu_build_id(elf, &bits);
        to_hex(out, bits, n);
    }
    elf_end(elf);
    return is_elf;
}

static bool is_recorded_file(int fd, const struct tt_symbol_module *module)
{
    char id[BUILD_ID_HEX];
    if (!build_id_of(fd, id))
        return false;
    if (*module->build_id)
        return !strcmp(id, module->build_id);
    struct stat st;
    if (fstat(fd, &st))
        return false;
    return (!module->file_size || module->file_size == (uint64_t)st.st_size) &&
           (!module->mtime || module->mtime == (int64_t)st.st_mtime);
}

/* Opens DIR/.build-id/xx/yyyySUFFIX if it carries that id. */
static int open_by_id(const char *dir, const char *id, const char *suffix, char **path)
{
    if (strlen(id) < 3)
        return -1;
    if (asprintf(path, "%s/.build-id/%.2s/%s%s", dir, id, id + 2, suffix) < 0)
        return -1;
    int fd = open_file(*path);
    char found[BUILD_ID_HEX];
    if (fd >= 0 && build_id_of(fd, found) && !strcmp(found, id))
        return fd;
    if (fd >= 0)
        close(fd);
    free(*path);
    *path = NULL;
    return -1;
}

int tt_symbol_locate(struct tt_symbol_image *image, char **path)
{
    struct tt_symbols *symbols = image->owner;
    const char *const roots[] = {symbols->sysroot, ""};
    const char *id = image->module.build_id;
    *path = NULL;
    image->is_debug = false;
    if (image->path[0] != '/')
        return -1;
    for (size_t i = *symbols->sysroot ? 0 : 1; i < 2; i++) {
        if (asprintf(path, "%s%s", roots[i], image->path) < 0)
            return -1;
        int fd = open_file(*path);
        if (fd >= 0) {
            if (is_recorded_file(fd, &image->module)) {
                image->changed = false;
                return fd;
            }
            image->changed = true;
            close(fd);
        }
        free(*path);
        *path = NULL;
    }
    for (size_t i = 0; i < symbols->debug_dirs.len; i++) {
        int fd = open_by_id(symbols->debug_dirs.data[i], id, "", path);
        if (fd >= 0)
            return fd;
    }
    /* The debug file alone has names and lines; unlike the program itself it is often kept. */
    image->is_debug = true;
    for (size_t i = 0; i < symbols->debug_dirs.len; i++) {
        int fd = open_by_id(symbols->debug_dirs.data[i], id, ".debug", path);
        if (fd >= 0)
            return fd;
    }
    int fd = tt_symbol_fetch(symbols, image->path, id, false, path);
    if (fd < 0) {
        image->is_debug = false;
        fd = tt_symbol_fetch(symbols, image->path, id, true, path);
    }
    return fd;
}

/* CRC-32 of the whole file as .gnu_debuglink defines it (GDB manual, "Separate Debug Files"). */
static bool has_crc(int fd, uint32_t want)
{
    static uint32_t table[256];
    if (!table[1]) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int bit = 0; bit < 8; bit++)
                c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
            table[i] = c;
        }
    }
    uint32_t crc = 0xffffffffu;
    unsigned char buf[65536];
    off_t at = 0;
    ssize_t n;
    while ((n = pread(fd, buf, sizeof buf, at)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            crc = table[(crc ^ buf[i]) & 255] ^ (crc >> 8);
        at += n;
    }
    return n == 0 && ~crc == want;
}

/* What a separate debug file must be: by build-id where there is one, else by CRC. */
struct wanted {
    char id[BUILD_ID_HEX];
    uint32_t crc;
    char **path;
};

static int try_named(const struct wanted *wanted, const char *root, const char *dir,
                     const char *sub, const char *name)
{
    if (asprintf(wanted->path, "%s%s%s%s", root, dir, sub, name) < 0)
        return -1;
    int fd = open_file(*wanted->path);
    if (fd >= 0) {
        char id[BUILD_ID_HEX];
        if (*wanted->id ? build_id_of(fd, id) && !strcmp(id, wanted->id)
                        : wanted->crc && has_crc(fd, wanted->crc))
            return fd;
        close(fd);
    }
    free(*wanted->path);
    *wanted->path = NULL;
    return -1;
}

/* The places where a debuglink name is looked for; file_dir ends in '/'. */
static int open_by_name(const struct tt_symbols *symbols, const struct wanted *wanted,
                        const char *file_dir, const char *recorded_dir, const char *name)
{
    int fd = -1;
    if (name[0] == '/') {
        if (*symbols->sysroot)
            fd = try_named(wanted, symbols->sysroot, "", "", name);
        return fd >= 0 ? fd : try_named(wanted, "", "", "", name);
    }
    if ((fd = try_named(wanted, "", file_dir, "", name)) >= 0 ||
        (fd = try_named(wanted, "", file_dir, ".debug/", name)) >= 0)
        return fd;
    for (size_t i = 0; i < symbols->debug_dirs.len; i++) {
        const char *dir = symbols->debug_dirs.data[i];
        if ((fd = try_named(wanted, dir, recorded_dir, "", name)) >= 0 ||
            (fd = try_named(wanted, dir, "/", "", name)) >= 0)
            return fd;
    }
    return -1;
}

/* A copy of path up to and with its last '/'. */
static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? strndup(path, (size_t)(slash - path) + 1) : strdup("./");
}

/* dwz moves what several debug files share into one more file, named in .gnu_debugaltlink with its
 * own build-id. Dwfl asks for it through the same callback, without a CRC. */
static void read_alt_id(const char *debug_file, char id[BUILD_ID_HEX])
{
    int fd = open_file(debug_file);
    if (fd < 0)
        return;
    Dwarf *dwarf = dwarf_begin(fd, DWARF_C_READ);
    if (dwarf) {
        const char *name;
        const void *bits;
        ssize_t n = dwelf_dwarf_gnu_debugaltlink(dwarf, &name, &bits);
        to_hex(id, bits, n);
        dwarf_end(dwarf);
    }
    close(fd);
}

int tt_symbol_locate_debug(Dwfl_Module *mod, void **userdata, const char *modname, Dwarf_Addr base,
                           const char *file_name, const char *debuglink_file,
                           GElf_Word debuglink_crc, char **debuginfo_file_name)
{
    (void)mod;
    (void)modname;
    (void)base;
    struct tt_symbol_image *image = *userdata;
    struct tt_symbols *symbols = image->owner;
    struct wanted wanted = {.crc = debuglink_crc, .path = debuginfo_file_name};
    *debuginfo_file_name = NULL;
    bool alt = debuglink_file && !debuglink_crc && file_name;
    if (alt)
        read_alt_id(file_name, wanted.id);
    else
        snprintf(wanted.id, sizeof wanted.id, "%s", image->module.build_id);
    int fd = -1;
    for (size_t i = 0; i < symbols->debug_dirs.len && fd < 0; i++)
        fd = open_by_id(symbols->debug_dirs.data[i], wanted.id, ".debug", debuginfo_file_name);
    if (fd < 0 && debuglink_file && file_name) {
        char *file_dir = directory_of(file_name), *recorded_dir = directory_of(image->path);
        if (file_dir && recorded_dir)
            fd = open_by_name(symbols, &wanted, file_dir, recorded_dir, debuglink_file);
        free(file_dir);
        free(recorded_dir);
    }
    if (fd < 0)
        fd = tt_symbol_fetch(symbols, image->path, wanted.id, false, debuginfo_file_name);
    return fd;
}
