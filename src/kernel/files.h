/* SPDX-License-Identifier: Apache-2.0 */
/* Files with code, as stacks need them. Start: tt_kernel_files_get. */
#ifndef TT_KERNEL_FILES_H
#define TT_KERNEL_FILES_H

#include "kernel/internal.h"

struct tt_kernel_file;
struct Dwarf_Frame_s; /* elfutils/libdw.h, Dwarf_Frame */

/* The file of a mapping of that process; one that cannot be read has no rules. The list's; NULL:
 * no memory. */
struct tt_kernel_file *tt_kernel_files_get(struct tt_kernel_files *files, pid_t pid,
                                           const struct tt_proc_map *map, const char *path);

/* A program counter in the mapping as the file's own address; false: in no segment with code. */
bool tt_kernel_file_address(const struct tt_kernel_file *f, const struct tt_proc_map *map,
                            uint64_t pc, uint64_t *address);

/* The rules at an address of the file, to be freed by free(); NULL: there are none. */
struct Dwarf_Frame_s *tt_kernel_file_frame(struct tt_kernel_file *f, uint64_t address);

/* Whether the function at an address is also known by a name of the C library's own: so are its
 * wrappers of system calls ("open" is __libc_open64), and what is written for it is not. */
bool tt_kernel_file_reserved(const struct tt_kernel_file *f, uint64_t address);

#endif
