/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the symbol room share: one image per recorded mapping, opened lazily, and the
 * store of strings that frames point into. Start: struct tt_symbol_image. */
#ifndef TT_SYMBOL_INTERNAL_H
#define TT_SYMBOL_INTERNAL_H

#include <elfutils/libdwfl.h>

#include "base/map.h"
#include "base/vec.h"
#include "symbol/symbol.h"

/* An address range of a compile unit, as in the file. */
struct tt_symbol_unit {
    uint64_t start, end;
    Dwarf_Off die;
};

struct tt_symbol_image {
    struct tt_symbols *owner;
    const char *path; /* without " (deleted)"; module.path keeps it */
    struct tt_symbol_module module;
    bool tried;   /* open was attempted; dwfl says with what success */
    bool changed; /* another file stands at the path now */
    bool
        is_debug; /* the main file is the separate debug file: segment offsets are not the file's */
    bool lineless; /* lines were asked for, and there is no DWARF */
    uint64_t bias; /* run-time address minus address in the file */
    Dwfl *dwfl;
    Dwfl_Module *mod; /* NULL: nothing usable was found */
    bool units_indexed;
    TT_VEC(struct tt_symbol_unit) units;
};

struct tt_symbol_answer {
    struct tt_symbol_frame *frames;
    size_t n;
};

struct tt_symbols {
    TT_VEC(struct tt_symbol_image) images;
    TT_VEC(const char *) debug_dirs; /* in search order */
    const char *sysroot;             /* "" none */
    struct tt_symbol_options options;
    struct tt_symbol_client *client; /* debuginfod, or NULL */
    TT_VEC(char *) strings;
    struct tt_map interned; /* hash -> index into strings */
    TT_VEC(struct tt_symbol_answer) answers;
    struct tt_map cache; /* address * 2 + is_return -> index into answers */
    TT_VEC(const char *) warnings;
    bool out_of_memory;
};

/* The string's one copy; "" and out_of_memory when there is no room. */
const char *tt_symbol_intern(struct tt_symbols *symbols, const char *text);

/* Whether a name looks like one that C++ or Rust compilers make. */
bool tt_symbol_is_mangled(const char *linkage);

/* Demangles and interns. */
const char *tt_symbol_name(struct tt_symbols *symbols, const char *linkage);

/* The last mapping in the list that holds pc, or NULL. Not opened. */
struct tt_symbol_image *tt_symbol_image_at(struct tt_symbols *symbols, uint64_t pc);

/* Opens the image at the first call; true if names can be asked of it. */
bool tt_symbol_image_open(struct tt_symbol_image *image);

/* The compile unit around pc, perhaps in *room; *bias is pc minus the address in the unit. NULL if
 * none is known. */
Dwarf_Die *tt_symbol_unit_at(struct tt_symbol_image *image, uint64_t pc, Dwarf_Die *room,
                             Dwarf_Addr *bias);

/* A file name of cu made absolute by its compilation directory, and interned. */
const char *tt_symbol_source(struct tt_symbol_image *image, Dwarf_Die *cu, const char *file);

/* Source position of pc, interned: true if known. */
bool tt_symbol_line_at(struct tt_symbol_image *image, uint64_t pc, const char **file,
                       unsigned *line);

/* A descriptor of the recorded file (or, if image->is_debug is set, of its debug file), or -1;
 * *path is where it was found, to be freed. Sets image->changed. */
int tt_symbol_locate(struct tt_symbol_image *image, char **path);

/* The Dwfl callback for separate debug information and for dwz's shared file. */
int tt_symbol_locate_debug(Dwfl_Module *mod, void **userdata, const char *modname, Dwarf_Addr base,
                           const char *file_name, const char *debuglink_file,
                           GElf_Word debuglink_crc, char **debuginfo_file_name);

/* Fetches by build-id through libdebuginfod: a descriptor or -1; *path to be freed. */
int tt_symbol_fetch(struct tt_symbols *symbols, const char *module, const char *build_id,
                    bool executable, char **path);
void tt_symbol_fetch_end(struct tt_symbols *symbols);

#endif
