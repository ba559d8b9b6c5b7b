/* SPDX-License-Identifier: Apache-2.0 */
/* Which allocator a program will get: walks the libraries it needs as the loader would (ld.so(8):
 * DT_RPATH or LD_LIBRARY_PATH, DT_RUNPATH, the configured and the default directories) and looks
 * for one that defines malloc. A library that is not found is passed over: the loader will say so.
 * Start: tt_proc_allocator. */
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/map.h"
#include "base/vec.h"
#include "proc/command.h"

#define OBJECTS_MAX 512u

struct walk {
    TT_VEC(char *) paths; /* objects to look at, breadth first */
    TT_VEC(char *) dirs;  /* configured directories */
    struct tt_map seen;   /* hash of a name */
};

/* What one object says. Strings are copies. */
struct object {
    TT_VEC(char *) needed;
    char *runpath;
    bool defines_malloc, defines_new;
};

static void free_strings(char **list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(list[i]);
    free(list);
}

static void read_dynamic(Elf *elf, Elf_Scn *section, const GElf_Shdr *sh, struct object *out)
{
    Elf_Data *data = elf_getdata(section, NULL);
    size_t n = data && sh->sh_entsize ? data->d_size / sh->sh_entsize : 0;
    for (size_t i = 0; i < n && i < 4096; i++) {
        GElf_Dyn dyn;
        if (!gelf_getdyn(data, (int)i, &dyn) || dyn.d_tag == DT_NULL)
            return;
        const char *text =
            dyn.d_tag == DT_NEEDED || dyn.d_tag == DT_RUNPATH || dyn.d_tag == DT_RPATH
                ? elf_strptr(elf, sh->sh_link, dyn.d_un.d_val)
                : NULL;
        char *copy = text ? strdup(text) : NULL;
        if (!copy)
            continue;
        if (dyn.d_tag == DT_NEEDED) {
            if (tt_vec_push(&out->needed, copy))
                free(copy);
        } else {
            free(out->runpath);
            out->runpath = copy;
        }
    }
}

static void read_symbols(Elf *elf, Elf_Scn *section, const GElf_Shdr *sh, struct object *out)
{
    Elf_Data *data = elf_getdata(section, NULL);
    size_t n = data && sh->sh_entsize ? data->d_size / sh->sh_entsize : 0;
    for (size_t i = 0; i < n && i < INT32_MAX; i++) {
        GElf_Sym symbol;
        if (!gelf_getsym(data, (int)i, &symbol) || symbol.st_shndx == SHN_UNDEF ||
            GELF_ST_TYPE(symbol.st_info) != STT_FUNC)
            continue;
        const char *name = elf_strptr(elf, sh->sh_link, symbol.st_name);
        if (!name)
            continue;
        out->defines_malloc |= strcmp(name, "malloc") == 0;
        out->defines_new |= strcmp(name, "_Znwm") == 0;
    }
}

static bool read_object(const char *path, struct object *out)
{
    *out = (struct object){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    elf_version(EV_CURRENT);
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    bool is_elf = elf && elf_kind(elf) == ELF_K_ELF && gelf_getclass(elf) == ELFCLASS64;
    for (Elf_Scn *section = NULL; is_elf && (section = elf_nextscn(elf, section)) != NULL;) {
        GElf_Shdr sh;
        if (!gelf_getshdr(section, &sh))
            continue;
        if (sh.sh_type == SHT_DYNAMIC)
            read_dynamic(elf, section, &sh, out);
        else if (sh.sh_type == SHT_DYNSYM)
            read_symbols(elf, section, &sh, out);
    }
    elf_end(elf);
    close(fd);
    return is_elf;
}

static void free_object(struct object *object)
{
    free_strings(object->needed.data, object->needed.len);
    free(object->runpath);
}

/* Tries DIR/NAME for each of the colon-separated directories; $ORIGIN is the object's own. */
static char *search(const char *list, const char *name, const char *object)
{
    const char *slash = strrchr(object, '/');
    int origin = slash ? (int)(slash - object) : 0;
    for (const char *at = list; at && *at;) {
        const char *end = strchrnul(at, ':');
        char path[PATH_MAX];
        int len = (int)(end - at), n;
        if (strncmp(at, "$ORIGIN", 7) == 0)
            n = snprintf(path, sizeof path, "%.*s%.*s/%s", origin, object, len - 7, at + 7, name);
        else if (strncmp(at, "${ORIGIN}", 9) == 0)
            n = snprintf(path, sizeof path, "%.*s%.*s/%s", origin, object, len - 9, at + 9, name);
        else
            n = snprintf(path, sizeof path, "%.*s/%s", len, at, name);
        if (n > 0 && n < PATH_MAX && access(path, R_OK) == 0)
            return strdup(path);
        at = *end ? end + 1 : end;
    }
    return NULL;
}

static char *find_library(const struct walk *walk, const struct object *object, const char *path,
                          const char *name)
{
    static const char defaults[] = "/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu:/lib64:"
                                   "/usr/lib64:/lib:/usr/lib:/usr/local/lib";
    if (strchr(name, '/'))
        return strdup(name);
    char *found = search(getenv("LD_LIBRARY_PATH"), name, path);
    if (!found)
        found = search(object->runpath, name, path);
    for (size_t i = 0; !found && i < walk->dirs.len; i++)
        found = search(walk->dirs.data[i], name, path);
    return found ? found : search(defaults, name, path);
}

static void read_configuration(struct walk *walk)
{
    glob_t files;
    if (glob("/etc/ld.so.conf.d/*.conf", 0, NULL, &files) != 0)
        return;
    for (size_t i = 0; i < files.gl_pathc; i++) {
        FILE *f = fopen(files.gl_pathv[i], "re");
        char line[PATH_MAX];
        while (f && fgets(line, sizeof line, f)) {
            line[strcspn(line, " \t\r\n#")] = '\0';
            char *copy = *line == '/' ? strdup(line) : NULL;
            if (copy && tt_vec_push(&walk->dirs, copy))
                free(copy);
        }
        if (f)
            fclose(f);
    }
    globfree(&files);
}

static void enqueue(struct walk *walk, char *path)
{
    uint64_t hash = path ? tt_map_hash(path, strlen(path)) : 0;
    if (!path || walk->paths.len >= OBJECTS_MAX || tt_map_get(&walk->seen, hash) ||
        tt_map_put(&walk->seen, hash, 1) || tt_vec_push(&walk->paths, path))
        free(path);
}

void tt_proc_allocator(const char *program, struct tt_proc_allocator *out)
{
    struct walk walk = {0};
    struct object none = {0};
    *out = (struct tt_proc_allocator){0};
    read_configuration(&walk);
    enqueue(&walk, strdup(program));
    const char *preload = getenv("LD_PRELOAD");
    for (const char *at = preload; at && *at;) {
        size_t len = strcspn(at, ": ");
        char *name = strndup(at, len);
        if (name && *name)
            enqueue(&walk, find_library(&walk, &none, program, name));
        free(name);
        at += len + (at[len] != '\0');
    }
    for (size_t i = 0; i < walk.paths.len; i++) {
        struct object object;
        const char *path = walk.paths.data[i], *base = strrchr(path, '/');
        base = base ? base + 1 : path;
        if (!read_object(path, &object))
            continue;
        if (object.defines_malloc && i == 0)
            out->built_in = true;
        else if (object.defines_malloc && !*out->path && strncmp(base, "libc.so", 7) != 0 &&
                 strncmp(base, "ld-", 3) != 0) {
            snprintf(out->path, sizeof out->path, "%s", path);
            out->defines_new = object.defines_new;
        }
        for (size_t k = 0; k < object.needed.len; k++)
            enqueue(&walk, find_library(&walk, &object, path, object.needed.data[k]));
        free_object(&object);
    }
    free_strings(walk.paths.data, walk.paths.len);
    free_strings(walk.dirs.data, walk.dirs.len);
    tt_map_free(&walk.seen);
}
