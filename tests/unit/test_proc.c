/* SPDX-License-Identifier: Apache-2.0 */
/* The proc room: parsing of mappings, figures of this very process, and what is said about commands
 * before they are run. Programs of other kinds are made from headers here. Start: main's table. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "proc/command.h"
#include "proc/proc.h"
#include "scratch.h"

static void mappings_are_parsed(void **state)
{
    (void)state;
    char text[] = "55d0c8a00000-55d0c8a21000 r-xp 00002000 fe:01 1234 /bin/a b (deleted)\n"
                  "nonsense\n"
                  "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n"
                  "7f0000002000-7f0000001000 rw-p 00000000 00:00 0 \n"
                  "7ffd00000000-7ffd00021000 rw-s 00000000 00:00 0    [stack]";
    struct tt_proc_maps maps = {.text = text};
    assert_int_equal(tt_proc_maps_parse(&maps, text), 0);
    assert_int_equal(maps.maps.len, 3);
    const struct tt_proc_map *map = &maps.maps.data[0];
    assert_true(map->exec && map->read && !map->write && !map->shared);
    assert_int_equal(map->offset, 0x2000);
    assert_int_equal(map->inode, 1234);
    assert_int_equal(map->device, makedev(0xfe, 1));
    assert_string_equal(tt_proc_map_path(&maps, map), "/bin/a b (deleted)");
    assert_string_equal(tt_proc_map_path(&maps, &maps.maps.data[1]), "");
    assert_string_equal(tt_proc_map_path(&maps, &maps.maps.data[2]), "[stack]");
    assert_ptr_equal(tt_proc_map_at(&maps, 0x7f0000000fff), &maps.maps.data[1]);
    assert_null(tt_proc_map_at(&maps, 0x7f0000001000));
    assert_null(tt_proc_map_at(&maps, 0));
    tt_vec_free(&maps.maps);
}

static bool everything(void *arg, const struct tt_proc_map *map)
{
    (void)map;
    ++*(int *)arg;
    return true;
}

static void put_limit(void *arg, const char *name, int64_t value)
{
    if (strcmp(name, "RLIMIT_NOFILE") == 0 && value > 0)
        *(int *)arg += 1;
    if (strcmp(name, "MemTotal") == 0 && value > 1 << 20)
        *(int *)arg += 10;
}

static void this_process_is_seen(void **state)
{
    (void)state;
    struct tt_proc_maps maps = {0};
    assert_int_equal(tt_proc_maps_read(getpid(), &maps), 0);
    const struct tt_proc_map *map =
        tt_proc_map_at(&maps, (uint64_t)(uintptr_t)&this_process_is_seen);
    assert_non_null(map);
    assert_true(map->exec);
    tt_proc_maps_free(&maps);

    int fds[64], n = 0;
    struct tt_proc_figures before, after;
    assert_int_equal(tt_proc_figures_read(getpid(), &before), 0);
    for (; n < 64; n++)
        fds[n] = open("/dev/null", O_RDONLY);
    assert_int_equal(tt_proc_figures_read(getpid(), &after), 0);
    assert_int_equal(after.fds - before.fds, 64);
    while (n)
        close(fds[--n]);
    assert_true(after.rss_anon > 0 && after.vm_size > after.rss_anon && after.threads == 1);
    assert_true(after.cpu_ms >= 0);

    int counted = 0;
    uint64_t bytes = 0;
    assert_int_equal(tt_proc_anonymous(getpid(), everything, &counted, &bytes), 0);
    assert_true(counted > 5 && bytes > 0);

    bool zombie = true;
    assert_int_equal(tt_proc_parent(getpid(), &zombie), getppid());
    assert_false(zombie);
    int seen = 0;
    tt_proc_limits(getpid(), put_limit, &seen);
    assert_int_equal(seen, 11);
    char line[256];
    tt_proc_cmdline(getpid(), line, sizeof line);
    assert_non_null(strstr(line, "test_proc"));
    assert_int_equal(tt_proc_figures_read(0x3ffffff, &after), -ENOENT);
}

static void files_are_identified(void **state)
{
    (void)state;
    char id[TT_PROC_BUILD_ID], version[32];
    int fd = open("/proc/self/exe", O_RDONLY);
    assert_int_equal(tt_proc_build_id(fd, id), 0);
    assert_true(*id == '\0' || strlen(id) == 40); /* depends on the linker's default */
    close(fd);
    fd = open("/etc/passwd", O_RDONLY);
    assert_int_equal(tt_proc_build_id(fd, id), -ENOEXEC);
    assert_string_equal(id, "");
    close(fd);
    tt_proc_libc_version("/lib/x86_64-linux-gnu/libc.so.6", version, sizeof version);
    assert_int_equal(strncmp(version, "2.", 2), 0);
    tt_proc_libc_version("/etc/passwd", version, sizeof version);
    assert_string_equal(version, "");
}

/* ---- commands ---- */

static char *file(const char *name, const void *bytes, size_t n, mode_t mode)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    return path;
}

/* A program header table with the given loader, "" for none. */
static size_t make_elf(char out[512], const char *loader, unsigned char class, Elf64_Half machine)
{
    memset(out, 0, 512);
    Elf64_Ehdr eh = {.e_type = ET_DYN,
                     .e_machine = machine,
                     .e_phoff = sizeof eh,
                     .e_phentsize = sizeof(Elf64_Phdr),
                     .e_phnum = 1};
    memcpy(eh.e_ident, ELFMAG, SELFMAG);
    eh.e_ident[EI_CLASS] = class;
    Elf64_Phdr ph = {
        .p_type = *loader ? PT_INTERP : PT_LOAD, .p_offset = 256, .p_filesz = strlen(loader) + 1};
    memcpy(out, &eh, sizeof eh);
    memcpy(out + sizeof eh, &ph, sizeof ph);
    memcpy(out + 256, loader, strlen(loader));
    return 512;
}

static void says(const char *name, int code, const char *words)
{
    struct tt_proc_command command;
    struct tt_error err = {0};
    assert_int_equal(tt_proc_command(name, &command, &err), code);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static void commands_are_refused_with_a_reason(void **state)
{
    (void)state;
    char elf[512];
    const char *glibc = "/lib64/ld-linux-x86-64.so.2";
    says("no-such-command-anywhere", -ENOENT, "not found in PATH");
    says("/no/such/command", -ENOENT, "No such file");
    says("", -ENOENT, "empty");
    says(scratch, -EISDIR, "directory");
    says(file("plain", "text", 4, 0644), -EACCES, "not executable");
    says(file("garbage", "text", 4, 0755), -ENOEXEC, "neither a program nor a script");
    says(file("static", elf, make_elf(elf, "", ELFCLASS64, EM_X86_64), 0755), -ENOTSUP,
         "statically linked");
    says(file("musl", elf, make_elf(elf, "/lib/ld-musl-x86_64.so.1", ELFCLASS64, EM_X86_64), 0755),
         -ENOTSUP, "musl");
    says(file("old", elf, make_elf(elf, glibc, ELFCLASS32, EM_386), 0755), -ENOTSUP, "32-bit");
    says(file("arm", elf, make_elf(elf, glibc, ELFCLASS64, EM_AARCH64), 0755), -ENOTSUP,
         "another machine");
    says(file("cut", ELFMAG, 4, 0755), -ENOEXEC, "not a whole program");
    char script[200];
    snprintf(script, sizeof script, "#! %s/static -x\n", scratch);
    file("static", elf, make_elf(elf, "", ELFCLASS64, EM_X86_64), 0755);
    says(file("script", script, strlen(script), 0755), -ENOTSUP, "statically linked");
    says(file("bad", "#!/no/such\n", 11, 0755), -ENOENT, "/no/such");
    says(file("none", "#!  \n", 5, 0755), -ENOEXEC, "names no interpreter");
    snprintf(script, sizeof script, "#!%s/loop\n", scratch);
    says(file("loop", script, strlen(script), 0755), -ELOOP, "too many interpreters");
    if (getuid() == 0) {
        size_t n = make_elf(elf, glibc, ELFCLASS64, EM_X86_64);
        char *path = file("setuid", elf, n, 0755);
        assert_int_equal(chown(path, 65534, 0), 0);
        assert_int_equal(chmod(path, 04755), 0);
        says(path, -ENOTSUP, "setuid");
    }
}

static void commands_are_found(void **state)
{
    (void)state;
    struct tt_proc_command command;
    struct tt_error err = {0};
    assert_int_equal(tt_proc_command("sh", &command, &err), 0);
    assert_non_null(strstr(command.path, "/sh"));
    assert_non_null(strstr(command.interpreter, "ld-linux"));
    char *path = file("good", "#!/bin/sh -e\nexit 3\n", 20, 0755);
    assert_int_equal(tt_proc_command(path, &command, &err), 0);
    assert_string_equal(command.path, path);
    assert_string_equal(command.program, "/bin/sh");

    struct tt_proc_allocator allocator;
    tt_proc_allocator("/bin/sh", &allocator);
    assert_false(allocator.built_in);
    assert_string_equal(allocator.path, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mappings_are_parsed),
        cmocka_unit_test(this_process_is_seen),
        cmocka_unit_test(files_are_identified),
        cmocka_unit_test(commands_are_refused_with_a_reason),
        cmocka_unit_test(commands_are_found),
    };
    return cmocka_run_group_tests_name("proc", tests, scratch_make, scratch_remove);
}
