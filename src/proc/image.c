/* SPDX-License-Identifier: Apache-2.0 */
/* What identifies a program file: its GNU build-id (the note NT_GNU_BUILD_ID of type 3, found
 * through the program headers, which stripping keeps), and glibc's own version line.
 * Start: tt_proc_build_id. */
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proc/proc.h"

static bool build_id_of_notes(Elf_Data *data, char out[TT_PROC_BUILD_ID])
{
    GElf_Nhdr note;
    size_t name, desc;
    for (size_t at = 0; (at = gelf_getnote(data, at, &note, &name, &desc)) > 0;) {
        if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != 4 ||
            memcmp((char *)data->d_buf + name, "GNU", 4) != 0)
            continue;
        size_t n = note.n_descsz;
        if (n == 0 || n * 2 >= TT_PROC_BUILD_ID)
            return false;
        for (size_t i = 0; i < n; i++)
            snprintf(out + 2 * i, 3, "%02x", ((unsigned char *)data->d_buf)[desc + i]);
        return true;
    }
    return false;
}

int tt_proc_build_id(int fd, char out[TT_PROC_BUILD_ID])
{
    *out = '\0';
    elf_version(EV_CURRENT);
    Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
    if (!elf)
        return -ENOEXEC;
    size_t n = 0;
    if (elf_kind(elf) != ELF_K_ELF || elf_getphdrnum(elf, &n) != 0) {
        elf_end(elf);
        return -ENOEXEC;
    }
    for (size_t i = 0; i < n; i++) {
        GElf_Phdr ph;
        if (!gelf_getphdr(elf, (int)i, &ph) || ph.p_type != PT_NOTE || ph.p_filesz > (1 << 20))
            continue;
        Elf_Data *data = elf_getdata_rawchunk(elf, (int64_t)ph.p_offset, ph.p_filesz,
                                              ph.p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR);
        if (data && build_id_of_notes(data, out))
            break;
    }
    elf_end(elf);
    return 0;
}

void tt_proc_libc_version(const char *path, char *out, size_t n)
{
    static const char mark[] = "GNU C Library";
    struct stat st;
    *out = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && st.st_size < (64 << 20)) {
        size_t size = (size_t)st.st_size;
        const char *file = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (file != MAP_FAILED) {
            const char *line = memmem(file, size, mark, sizeof mark - 1);
            const char *version =
                line ? memmem(line, size - (size_t)(line - file), "version ", 8) : NULL;
            for (size_t i = 0; version && i + 1 < n && version + 8 + i < file + size; i++) {
                char c = version[8 + i];
                if ((c < '0' || c > '9') && (c != '.' || (i > 0 && out[i - 1] == '.')))
                    break;
                out[i] = c;
                out[i + 1] = '\0';
            }
            size_t len = strlen(out);
            if (len && out[len - 1] == '.')
                out[len - 1] = '\0';
            munmap((void *)(uintptr_t)file, size);
        }
    }
    close(fd);
}
