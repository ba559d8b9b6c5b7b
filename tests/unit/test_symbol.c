/* SPDX-License-Identifier: Apache-2.0 */
/* The symbol room against programs that this test compiles and runs: each prints its own ground
 * truth (its executable mapping, and return addresses taken at known lines), which is then looked
 * up as a recording would be, from the file alone. Start: main's table. */
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "symbol/symbol.h"

#define ID "0123456789abcdef0123456789abcdef01234567"
#define OTHER_ID "ffff456789abcdef0123456789abcdef01234567"

/* Line numbers in this text are what the tests expect: keep them. */
static const char c_source[] =
    /* 1 */ "#include <stdio.h>\n"
            /* 2 */ "#define KEEP __asm__ volatile(\"\" ::: \"memory\")\n"
            /* 3 */ "__attribute__((noinline)) void *here(void) { KEEP; return "
            "__builtin_return_address(0); }\n"
            /* 4 */ "static inline __attribute__((always_inline)) void *inner(void) {\n"
            /* 5 */ "    void *p = here(); KEEP; return p;\n"
            /* 6 */ "}\n"
            /* 7 */ "static inline __attribute__((always_inline)) void *outer(void) {\n"
            /* 8 */ "    void *p = inner(); KEEP; return p;\n"
            /* 9 */ "}\n"
            /* 10 */ "__attribute__((noinline)) void *host(void) {\n"
            /* 11 */ "    void *p = outer(); KEEP; return p;\n"
            /* 12 */ "}\n"
            /* 13 */ "__attribute__((noinline, cold)) void rare(int n) { printf(\"# rare %d\\n\", "
            "n); KEEP; }\n"
            /* 14 */ "__attribute__((noinline)) int split(int n) {\n"
            /* 15 */ "    if (__builtin_expect(n == 77, 0)) { rare(n); puts(\"# x\"); return 3; }\n"
            /* 16 */ "    KEEP; return n + 1;\n"
            /* 17 */ "}\n"
            /* 18 */ "__attribute__((noinline)) static int twin(void) { KEEP; return 1; }\n"
            /* 19 */ "int other_twin(void);\n"
            /* 20 */ "int main(int argc, char **argv) {\n"
            /* 21 */ "    char line[4096]; FILE *f = fopen(\"/proc/self/maps\", \"r\"); "
            "(void)argv;\n"
            /* 22 */ "    while (fgets(line, sizeof line, f))\n"
            /* 23 */ "        if (__builtin_strstr(line, \"r-xp\") && __builtin_strstr(line, "
            "\"/fix\")) fputs(line, stdout);\n"
            /* 24 */ "    printf(\"host %p\\nreturn %p\\n\", (void *)host, host());\n"
            /* 25 */ "    return split(argc) + twin() + other_twin() > 100;\n"
            /* 26 */ "}\n";
static const char c_other[] = "__attribute__((noinline)) static int twin(void)"
                              " { __asm__ volatile(\"\"); return 2; }\n"
                              "int other_twin(void) { return twin(); }\n";

static const char cpp_source[] =
    "namespace lab {\n"
    "struct Scale {\n"
    "    __attribute__((always_inline)) static void *read(void)\n"
    "    { void *p = __builtin_return_address(0); __asm__ volatile(\"nop;nop;nop;nop\" : "
    "\"+r\"(p)); return p; }\n"
    "};\n"
    "__attribute__((noinline)) void *use_scale(void)\n"
    "{ void *p = Scale::read(); __asm__ volatile(\"\"); return p; }\n"
    "struct Box {\n"
    "    template <class T> __attribute__((noinline)) long put(T v) const\n"
    "    { __asm__ volatile(\"\"); return (long)v; }\n"
    "    __attribute__((noinline)) Box &operator+=(int) { __asm__ volatile(\"\"); return *this; }\n"
    "};\n"
    "__attribute__((noinline)) long weigh(int) { __asm__ volatile(\"\"); return 1; }\n"
    "__attribute__((noinline)) long weigh(double) { __asm__ volatile(\"\"); return 2; }\n"
    "}\n"
    "int main() { lab::Box b; b += 1; return (int)(b.put(1.5) + lab::weigh(1) + !lab::use_scale() "
    "+ lab::weigh(1.0)); "
    "}\n";

static const char rust_source[] = "mod shop {\n"
                                  "    #[inline(never)]\n"
                                  "    pub fn sell(n: u64) -> u64 { std::hint::black_box(n + 1) }\n"
                                  "}\n"
                                  "fn main() { println!(\"{}\", shop::sell(1)); }\n";

static char dir[] = "/tmp/tt-symbol-XXXXXX";

/* What a fixture said about itself. */
struct truth {
    char path[256];
    uint64_t start, end, offset, host, returned;
};

__attribute__((format(printf, 1, 2))) static int sh(const char *fmt, ...)
{
    char command[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(command, sizeof command, fmt, ap);
    va_end(ap);
    return system(command);
}

static void write_file(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void run_fixture(const char *name, struct truth *truth)
{
    char line[4096];
    memset(truth, 0, sizeof *truth);
    snprintf(truth->path, sizeof truth->path, "%s/%s", dir, name);
    FILE *f = popen(truth->path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        sscanf(line, "%lx-%lx r-xp %lx", &truth->start, &truth->end, &truth->offset);
        sscanf(line, "host %lx", &truth->host);
        sscanf(line, "return %lx", &truth->returned);
    }
    assert_int_equal(pclose(f), 0);
    assert_true(truth->start < truth->returned && truth->returned < truth->end);
}

/* The value of the first symbol whose line in nm's output contains text, as in the file. */
static uint64_t nm(const char *name, const char *text)
{
    char command[600], line[4096];
    uint64_t value = 0;
    snprintf(command, sizeof command, "nm %s/%s", dir, name);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        if (!value && strstr(line, text))
            value = strtoull(line, NULL, 16);
    pclose(f);
    return value;
}

static struct tt_symbols *open_truth(const struct truth *truth, const char *id,
                                     const struct tt_symbol_options *options)
{
    struct tt_symbol_module module = {.path = truth->path,
                                      .build_id = id,
                                      .start = truth->start,
                                      .end = truth->end,
                                      .file_offset = truth->offset};
    struct tt_symbols *symbols = tt_symbol_open(&module, 1, options, NULL);
    assert_non_null(symbols);
    return symbols;
}

/* A mapping of a file that never ran: the executable segment at a place of our choice. */
static struct tt_symbols *open_file(const char *name, uint64_t *bias)
{
    char command[600];
    unsigned long offset = 0, address = 0, size = 0;
    struct truth truth = {.host = 0};
    snprintf(truth.path, sizeof truth.path, "%s/%s", dir, name);
    snprintf(command, sizeof command,
             "readelf -lW %s | awk '$1==\"LOAD\" && / R E /{print $2,$3,$6}'", truth.path);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lx %lx %lx", &offset, &address, &size), 3);
    pclose(f);
    *bias = 0x7f0000000000;
    truth.start = *bias + (address & ~4095ul);
    truth.offset = offset & ~4095ul;
    truth.end = truth.start + ((size + 8191) & ~4095ul);
    return open_truth(&truth, "", NULL);
}

static void expect_names(struct tt_symbols *symbols, const struct truth *truth, bool lines)
{
    const struct tt_symbol_frame *frames;
    size_t n;
    assert_int_equal(tt_symbol_lookup(symbols, truth->returned, true, &frames, &n), 0);
    if (!lines) {
        assert_int_equal(n, 1);
        assert_string_equal(frames[0].function, "host");
        assert_string_equal(frames[0].file, "");
        assert_int_equal(frames[0].line, 0);
        return;
    }
    static const struct {
        const char *function;
        unsigned line;
    } want[] = {{"inner", 5}, {"outer", 8}, {"host", 11}};
    assert_int_equal(n, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(frames[i].function, want[i].function);
        assert_int_equal(frames[i].line, want[i].line);
        assert_int_equal(frames[i].inlined, i < 2);
        assert_string_equal(frames[i].module, truth->path);
        assert_non_null(strstr(frames[i].file, "/fix.c"));
        assert_int_equal(frames[i].file[0], '/');
    }
}

static void test_lines_and_inlined_frames(void **state)
{
    (void)state;
    static const char *const names[] = {"fix", "fix-static", "fix-noaranges"};
    for (size_t i = 0; i < 3; i++) {
        struct truth truth;
        run_fixture(names[i], &truth);
        struct tt_symbols *symbols = open_truth(&truth, ID, NULL);
        expect_names(symbols, &truth, true);
        const struct tt_symbol_frame *frames, *again;
        size_t n;
        assert_int_equal(tt_symbol_lookup(symbols, truth.host, false, &frames, &n), 0);
        assert_string_equal(frames[n - 1].function, "host");
        /* The entry may belong to the opening brace or to the first statement. */
        assert_in_range(frames[n - 1].line, 10, 11);
        assert_int_equal(tt_symbol_lookup(symbols, truth.host, false, &again, &n), 0);
        assert_ptr_equal(frames, again);
        struct tt_symbol_stats stats = tt_symbol_stats(symbols);
        assert_int_equal(stats.modules, 1);
        assert_int_equal(stats.changed + stats.nameless + stats.lineless, 0);
        tt_symbol_close(symbols);
    }
}

static void test_without_debug_information(void **state)
{
    (void)state;
    struct truth truth;
    run_fixture("fix-nog", &truth);
    struct tt_symbols *symbols = open_truth(&truth, ID, NULL);
    expect_names(symbols, &truth, false);
    assert_int_equal(tt_symbol_stats(symbols).lineless, 1);
    tt_symbol_close(symbols);
}

static void test_stripped_is_nameless_and_says_so(void **state)
{
    (void)state;
    struct truth truth;
    run_fixture("fix-bare", &truth);
    struct tt_symbols *symbols = open_truth(&truth, OTHER_ID, NULL);
    const struct tt_symbol_frame *frames;
    size_t n;
    assert_int_equal(tt_symbol_lookup(symbols, truth.returned, true, &frames, &n), 0);
    assert_int_equal(n, 1);
    assert_string_equal(frames[0].module, truth.path);
    /* The stripped file still has .dynsym, whose imports name nothing here. */
    assert_string_equal(frames[0].function, "");
    assert_int_equal(frames[0].offset, truth.returned - truth.start + truth.offset);
    tt_symbol_close(symbols);
}

static void test_separate_debug_file(void **state)
{
    (void)state;
    struct truth truth;
    char path[512];
    run_fixture("fix-stripped", &truth);
    struct tt_symbols *symbols = open_truth(&truth, ID, NULL); /* by .gnu_debuglink, beside it */
    expect_names(symbols, &truth, true);
    tt_symbol_close(symbols);

    run_fixture("fix-bylink", &truth); /* no build-id: by debuglink and CRC, in .debug/ */
    symbols = open_truth(&truth, "", NULL);
    expect_names(symbols, &truth, true);
    tt_symbol_close(symbols);

    run_fixture("fix-badlink", &truth); /* same name, other contents: refused */
    symbols = open_truth(&truth, "", NULL);
    const struct tt_symbol_frame *frames;
    size_t n;
    assert_int_equal(tt_symbol_lookup(symbols, truth.returned, true, &frames, &n), 0);
    assert_string_equal(frames[0].function, "");
    tt_symbol_close(symbols);

    run_fixture("alone/fix-alone", &truth); /* by build-id under --debug-path */
    snprintf(path, sizeof path, "%s/debug", dir);
    const char *paths[] = {path};
    struct tt_symbol_options options = {.debug_paths = paths, .n_debug_paths = 1};
    symbols = open_truth(&truth, ID, &options);
    expect_names(symbols, &truth, true);
    tt_symbol_close(symbols);

    snprintf(truth.path, sizeof truth.path,
             "/nowhere/fix-alone"); /* the debug file is all there is */
    symbols = open_truth(&truth, ID, &options);
    expect_names(symbols, &truth, true);
    tt_symbol_close(symbols);
}

static int count_progress(void *arg, const char *module, long have, long total)
{
    (void)have;
    (void)total;
    assert_non_null(strstr(module, "fix-alone"));
    ++*(int *)arg;
    return 0;
}

static void test_debuginfod_only_when_asked(void **state)
{
    (void)state;
    struct truth truth;
    char text[512];
    int calls = 0;
    void *library = dlopen("libdebuginfod.so.1", RTLD_NOW);
    if (!library)
        skip();
    run_fixture("alone/fix-alone", &truth);
    assert_int_equal(sh("mkdir -p %s/server/buildid/" ID " && cp %s/fix-stripped.dbg "
                        "%s/server/buildid/" ID "/debuginfo",
                        dir, dir, dir),
                     0);
    snprintf(text, sizeof text, "file://%s/server", dir);
    setenv("DEBUGINFOD_URLS", text, 1);
    snprintf(text, sizeof text, "%s/cache", dir);
    setenv("DEBUGINFOD_CACHE_PATH", text, 1);
    struct tt_symbol_options options = {.progress = count_progress, .progress_arg = &calls};
    struct tt_symbols *symbols = open_truth(&truth, ID, &options);
    const struct tt_symbol_frame *frames;
    size_t n;
    assert_int_equal(tt_symbol_lookup(symbols, truth.returned, true, &frames, &n), 0);
    assert_string_equal(frames[0].function, "");
    assert_int_not_equal(access(text, F_OK), 0); /* not even a cache was made */
    tt_symbol_close(symbols);

    options.debuginfod = true;
    symbols = open_truth(&truth, ID, &options);
    expect_names(symbols, &truth, true);
    tt_symbol_close(symbols);

    snprintf(text, sizeof text, "http://127.0.0.1:1/"); /* nothing listens there */
    setenv("DEBUGINFOD_URLS", text, 1);
    setenv("DEBUGINFOD_CACHE_PATH", dir, 1);
    symbols = open_truth(&truth, ID, &options);
    assert_int_equal(tt_symbol_lookup(symbols, truth.returned, true, &frames, &n), 0);
    assert_string_equal(frames[0].function, "");
    tt_symbol_close(symbols);
    unsetenv("DEBUGINFOD_URLS");
}

static void test_sysroot(void **state)
{
    (void)state;
    struct truth truth;
    run_fixture("fix", &truth);
    snprintf(truth.path, sizeof truth.path, "/fix (deleted)");
    struct tt_symbol_options options = {.sysroot = dir};
    struct tt_symbols *symbols = open_truth(&truth, ID, &options);
    expect_names(symbols, &truth, true);
    tt_symbol_close(symbols);
}

static void test_changed_file_is_refused(void **state)
{
    (void)state;
    struct truth truth;
    run_fixture("fix", &truth);
    struct tt_symbols *symbols = open_truth(&truth, OTHER_ID, NULL);
    const struct tt_symbol_frame *frames;
    size_t n;
    assert_int_equal(tt_symbol_lookup(symbols, truth.returned, true, &frames, &n), 0);
    assert_int_equal(n, 1);
    assert_string_equal(frames[0].function, "");
    assert_int_equal(tt_symbol_stats(symbols).changed, 1);
    const char *const *lines = tt_symbol_warnings(symbols, &n);
    assert_int_equal(n, 1);
    assert_non_null(strstr(lines[0], "changed since the recording"));
    tt_symbol_close(symbols);

    /* Without a build-id, size and time decide. */
    struct tt_symbol_module module = {.path = truth.path,
                                      .start = truth.start,
                                      .end = truth.end,
                                      .file_offset = truth.offset,
                                      .file_size = 12345};
    symbols = tt_symbol_open(&module, 1, NULL, NULL);
    assert_int_equal(tt_symbol_lookup(symbols, truth.returned, true, &frames, &n), 0);
    assert_string_equal(frames[0].function, "");
    tt_symbol_close(symbols);
}

static void test_address_nowhere(void **state)
{
    (void)state;
    struct tt_symbol_module vdso = {.path = "[vdso]", .start = 0x1000, .end = 0x2000};
    struct tt_symbols *symbols = tt_symbol_open(&vdso, 1, NULL, NULL);
    const struct tt_symbol_frame *frames;
    size_t n;
    assert_int_equal(tt_symbol_lookup(symbols, 0x1800, true, &frames, &n), 0);
    assert_string_equal(frames[0].module, "[vdso]");
    assert_int_equal(tt_symbol_lookup(symbols, 0xdead0000, true, &frames, &n), 0);
    assert_int_equal(n, 1);
    assert_string_equal(frames[0].module, "");
    assert_int_equal(frames[0].offset, 0xdead0000);
    assert_int_equal(tt_symbol_lookup(symbols, 0, true, &frames, &n), 0);
    struct tt_symbol_function f;
    assert_int_equal(tt_symbol_enclosing(symbols, 0x1800, false, &f), -ENOENT);
    tt_symbol_warnings(symbols, &n);
    assert_int_equal(n, 0);
    tt_symbol_close(symbols);
}

static void test_find_by_name(void **state)
{
    (void)state;
    struct truth truth;
    struct tt_error err;
    struct tt_symbol_function f;
    run_fixture("fix", &truth);
    struct tt_symbols *symbols = open_truth(&truth, ID, NULL);
    assert_int_equal(tt_symbol_find(symbols, "host", &f, &err), 0);
    assert_int_equal(f.entry, truth.host);
    assert_true(f.size > 0 && truth.returned < f.entry + f.size);
    assert_int_equal(tt_symbol_find(symbols, "nobody", &f, &err), -ENOENT);
    assert_non_null(strstr(err.text, "\"nobody\""));
    assert_int_equal(tt_symbol_find(symbols, "inner", &f, &err), -ENOENT); /* only inlined */
    assert_int_equal(tt_symbol_find(symbols, "twin", &f, &err), -ENOTUNIQ);
    assert_non_null(strstr(err.text, "fix.c:18"));
    assert_non_null(strstr(err.text, "other.c:1"));
    assert_int_equal(tt_symbol_find(symbols, "twin@other.c", &f, &err), 0);
    assert_int_equal(tt_symbol_find(symbols, "twin@nofile.c", &f, &err), -ENOENT);
    assert_int_equal(tt_symbol_find(symbols, "host@fix", &f, &err), 0);
    tt_symbol_close(symbols);

    run_fixture("fix-nog",
                &truth); /* without lines the file symbols of the table tell them apart */
    symbols = open_truth(&truth, ID, NULL);
    assert_int_equal(tt_symbol_find(symbols, "twin@other.c", &f, &err), 0);
    tt_symbol_close(symbols);
}

static void test_enclosing(void **state)
{
    (void)state;
    struct truth truth;
    struct tt_symbol_function f;
    run_fixture("fix", &truth);
    struct tt_symbols *symbols = open_truth(&truth, ID, NULL);
    assert_int_equal(tt_symbol_enclosing(symbols, truth.returned, true, &f), 0);
    assert_int_equal(f.entry, truth.host);
    assert_string_equal(f.name, "host");
    uint64_t bias = truth.host - nm("fix", " T host");
    uint64_t cold = nm("fix", "split.cold"), warm = nm("fix", " T split\n");
    assert_true(warm != 0);
    if (cold) { /* the compiler's choice */
        assert_int_equal(tt_symbol_enclosing(symbols, bias + cold, false, &f), 0);
        assert_int_equal(f.entry, bias + warm);
        assert_string_equal(f.linkage, "split");
    }
    tt_symbol_close(symbols);
}

static void test_cpp(void **state)
{
    (void)state;
    if (sh("command -v c++ >/dev/null"))
        skip();
    write_file("box.cc", cpp_source);
    assert_int_equal(sh("cd %s && c++ -g -O2 -o box box.cc", dir), 0);
    uint64_t bias;
    struct tt_error err;
    struct tt_symbol_function f;
    struct tt_symbols *symbols = open_file("box", &bias);
    const struct tt_symbol_frame *frames;
    size_t n;
    assert_int_equal(tt_symbol_lookup(symbols, bias + nm("box", "3put"), false, &frames, &n), 0);
    assert_string_equal(frames[n - 1].function, "lab::Box::put<double>");
    /* Somewhere in use_scale stands what was inlined and never had a symbol. */
    bool seen = false;
    uint64_t use = bias + nm("box", "9use_scale");
    for (uint64_t i = 0; i < 12 && !seen; i++) {
        assert_int_equal(tt_symbol_lookup(symbols, use + i, false, &frames, &n), 0);
        seen = n == 2 && !strcmp(frames[0].function, "lab::Scale::read") && frames[0].inlined &&
               !strcmp(frames[1].function, "lab::use_scale");
    }
    assert_true(seen);
    assert_int_equal(tt_symbol_find(symbols, "lab::Box::operator+=", &f, &err), 0);
    assert_int_equal(tt_symbol_find(symbols, "lab::weigh", &f, &err), -ENOTUNIQ);
    assert_int_equal(tt_symbol_find(symbols, "lab::weigh(double)", &f, &err), 0);
    assert_int_equal(f.entry, bias + nm("box", "5weighEd"));
    assert_int_equal(tt_symbol_find(symbols, "_ZN3lab5weighEi", &f, &err), 0);
    assert_string_equal(f.name, "lab::weigh");
    tt_symbol_close(symbols);
}

static void test_rust(void **state)
{
    (void)state;
    if (sh("command -v rustc >/dev/null"))
        skip();
    write_file("crate.rs", rust_source);
    static const char *const flags[] = {"-C opt-level=2", "-C symbol-mangling-version=v0"};
    for (size_t i = 0; i < 2; i++) {
        if (sh("cd %s && rustc -g %s -o crate crate.rs 2>rustc.log", dir, flags[i]))
            skip(); /* no linker or standard library for it */
        uint64_t bias;
        struct tt_symbols *symbols = open_file("crate", &bias);
        const struct tt_symbol_frame *frames;
        size_t n;
        uint64_t at = bias + nm("crate", "4sell");
        assert_int_equal(tt_symbol_lookup(symbols, at, false, &frames, &n), 0);
        assert_string_equal(frames[n - 1].function, "crate::shop::sell");
        assert_non_null(strstr(frames[n - 1].file, "crate.rs"));
        struct tt_symbol_function f;
        assert_int_equal(tt_symbol_find(symbols, "crate::shop::sell", &f, NULL), 0);
        assert_int_equal(f.entry, at);
        tt_symbol_close(symbols);
    }
}

static void test_demangle(void **state)
{
    (void)state;
    static const char *const names[][3] = {
        {"_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back",
         "std::vector<int, std::allocator<int> >::push_back(int const&)"},
        {"_Znwm", "operator new", "operator new(unsigned long)"},
        {"_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "core::fmt::Write::write_fmt",
         "core::fmt::Write::write_fmt"},
        {"_RNvCs15kBYyAo9fc_7mycrate7example", "mycrate::example", "mycrate::example"},
        {"main", "main", "main"},
        {"_Zbroken", "_Zbroken", "_Zbroken"},
        {"_Runtime_start", "_Runtime_start", "_Runtime_start"},
        {"pkg__name__3", "pkg__name__3", "pkg__name__3"},
        {"", "", ""},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (int parameters = 0; parameters < 2; parameters++) {
            char *name = tt_symbol_demangle(names[i][0], parameters);
            assert_string_equal(name, names[i][1 + parameters]);
            free(name);
        }
    }
}

static int compile(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    write_file("fix.c", c_source);
    write_file("other.c", c_other);
    static const char recipe[] =
        "cd %s && set -e; cc=${CC:-cc}; id='-Wl,--build-id=0x" ID "'; src='fix.c other.c'\n"
        "$cc -g -O2 $id -o fix $src; $cc -g -O2 -no-pie $id -o fix-static $src\n"
        "$cc -O2 $id -o fix-nog $src\n"
        "objcopy -R .debug_aranges fix fix-noaranges\n"
        /* Nothing to find it by: its id is that of no debug file. */
        "$cc -O2 -s -Wl,--build-id=0x" OTHER_ID " -o fix-bare $src\n"
        "objcopy --only-keep-debug fix fix-stripped.dbg\n"
        "objcopy -S --add-gnu-debuglink=fix-stripped.dbg fix fix-stripped\n"
        "$cc -g -O2 -Wl,--build-id=none -o whole $src; mkdir .debug alone\n"
        "objcopy --only-keep-debug whole .debug/fix-bylink.dbg\n"
        "objcopy -S --add-gnu-debuglink=.debug/fix-bylink.dbg whole fix-bylink\n"
        "cp .debug/fix-bylink.dbg fix-badlink.dbg\n"
        "objcopy -S --add-gnu-debuglink=fix-badlink.dbg whole fix-badlink\n"
        "echo tail >>fix-badlink.dbg\n"
        "mkdir -p debug/.build-id/01; mv fix-stripped fix-stripped.keep\n"
        "cp fix-stripped.dbg debug/.build-id/01/23456789abcdef0123456789abcdef01234567.debug\n"
        "mv fix-stripped.keep fix-stripped; objcopy -S fix alone/fix-alone\n";
    return sh(recipe, dir) ? -1 : 0;
}

static int clean(void **state)
{
    (void)state;
    return sh("rm -rf %s", dir) ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_and_inlined_frames),
        cmocka_unit_test(test_without_debug_information),
        cmocka_unit_test(test_stripped_is_nameless_and_says_so),
        cmocka_unit_test(test_separate_debug_file),
        cmocka_unit_test(test_debuginfod_only_when_asked),
        cmocka_unit_test(test_sysroot),
        cmocka_unit_test(test_changed_file_is_refused),
        cmocka_unit_test(test_address_nowhere),
        cmocka_unit_test(test_find_by_name),
        cmocka_unit_test(test_enclosing),
        cmocka_unit_test(test_cpp),
        cmocka_unit_test(test_rust),
        cmocka_unit_test(test_demangle),
    };
    return cmocka_run_group_tests(tests, compile, clean);
}
